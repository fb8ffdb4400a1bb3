"""torch.compile for the U-Net's blocks: the same losses, or a sentence and a run without it."""

import logging

import pytest
import torch

from coemogen_train.train import compiled
from coemogen_train.train.config import make_config
from coemogen_train.train.setup import make_accelerator, prepare_run
from coemogen_train.train.start import begin
from coemogen_train.train.step import optimise


def losses(config, steps=2):
    run = prepare_run(config, begin(config), make_accelerator("cpu"))
    return torch.stack([optimise(run, step).values for step in range(steps)])


def without_compiler(*_args, **_named):
    raise RuntimeError("no C++ compiler was found\nand much more")


def test_without_a_compiler_one_sentence_is_told_and_nothing_is_compiled(monkeypatch, caplog, base):
    monkeypatch.setattr(torch, "compile", without_compiler)
    with caplog.at_level(logging.WARNING, logger=compiled.__name__):
        assert not compiled.compile_blocks(base.unet, torch.device("cpu"))
    assert all(module._compiled_call_impl is None for module in base.unet.modules())
    assert [record.message for record in caplog.records] == [
        "compile = true, but torch.compile does not work here (no C++ compiler was found): the run goes on "
        "without it"
    ]


@pytest.mark.slow
def test_compiled_blocks_give_the_losses_of_those_that_are_not(settings):
    plain = losses(make_config(settings))
    unused = compiled._fault(torch.device("cpu"))
    if unused is not None:
        pytest.skip(unused)
    torch.testing.assert_close(losses(make_config(settings | {"compile": True})), plain, rtol=1e-4, atol=1e-6)
