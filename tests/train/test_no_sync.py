"""A step never waits for the device: nothing of it turns a tensor into a Python number."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from coemogen_train.train import loop
from coemogen_train.train.accelerator import make_accelerator
from coemogen_train.train.config import make_config
from coemogen_train.train.setup import prepare_run
from coemogen_train.train.start import begin

# What a CUDA device would have to be waited for: reading a number, or a result whose size depends on the
# data.
WAITS = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "equal",
    "is_nonzero",
    "unique_consecutive",
    "_unique2",
}


class Waits(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        name = function.overloadpacket.__name__
        if name in WAITS:
            self.seen.append(name)
        return function(*arguments, **(named or {}))


@pytest.mark.parametrize("turns", [[[0, 1, 2, 3]], [[0, 2, 3], [1]]])
def test_a_step_reads_nothing_from_the_device(settings, monkeypatch, turns):
    config = make_config(settings | {"ema_decay": 0.9, "min_snr_gamma": 5.0})
    run = prepare_run(config, begin(config), make_accelerator())
    loop.optimise(run, 0)  # what is loaded or made once may wait
    # Divided and made on the CPU, whatever the device.
    made = {tuple(turn): run.batches.batch(1, turn) for turn in turns}
    monkeypatch.setattr(run.batches, "micro_batches", lambda *_: turns)
    monkeypatch.setattr(run.batches, "batch", lambda _, positions: made[tuple(positions)])
    with Waits() as waits:
        loop.optimise(run, 1)
    assert waits.seen == []


def test_the_watch_sees_what_it_should():
    with Waits() as waits:
        bool(torch.ones(1).sum() > 0)
        torch.ones(2)[torch.tensor([True, False])]
    assert {"_local_scalar_dense"} <= set(waits.seen)
