"""What does not alter the mathematics leaves the loss curve as it is: to the bit, or but for rounding.

Each curve is that of a whole run under one seed: losses, norm of the gradients and rate of every step. That
an accumulated batch, cached captions and a compiled U-Net change but the last digits stands in `test_loop`,
`test_cached_captions` and `test_compiled`.
"""

import pytest
import torch
from torch import nn

from coemogen_train.train import setup
from coemogen_train.train.config import make_config
from coemogen_train.train.history import read_history
from coemogen_train.train.loop import train
from coemogen_train.train.prefetch import NextBatch

STEPS = 4
_plain: list[dict[int, dict[str, float]]] = []
_taken_ahead: list[bool] = []


def curve(settings: dict, **changes) -> dict[int, dict[str, float]]:
    config = make_config(settings | {"steps": STEPS, "log_every": 2, "save_every": 0} | changes)
    return {record.step: record.values() for record in read_history(train(config, progress=False).history)}


@pytest.fixture()
def plain(settings, tmp_path) -> dict[int, dict[str, float]]:
    """The curve that the others are held against, drawn once, and which batches were made ahead."""
    if not _plain:
        take = NextBatch.take

        def noted(*of):
            taken = take(*of)
            _taken_ahead.append(taken is not None)
            return taken

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(NextBatch, "take", noted)
            _plain.append(curve(settings, out=str(tmp_path / "plain")))
    assert list(_plain[0]) == [1, 2, 3, 4]
    return _plain[0]


def test_batches_made_in_line_and_ahead(settings, plain, monkeypatch):
    assert _taken_ahead == [False] + [True] * (len(_taken_ahead) - 1) and len(_taken_ahead) >= STEPS
    monkeypatch.setattr(NextBatch, "begin", lambda batch, make: None)
    assert curve(settings) == plain


def test_reading_and_saving_at_every_step(settings, plain):
    assert curve(settings, log_every=1, save_every=1, keep_checkpoints=1) == plain


def test_gradient_checkpointing(settings, plain):
    assert curve(settings, gradient_checkpointing=True) == plain


def test_another_layout_in_memory(settings, plain, monkeypatch):
    place = setup.set_precision

    def contiguous(base, *more):
        place(base, *more)
        assert base.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
        nn.Module.to(base.unet, memory_format=torch.contiguous_format)

    monkeypatch.setattr(setup, "set_precision", contiguous)
    torch.testing.assert_close(curve(settings), plain, rtol=1e-5, atol=1e-7)
