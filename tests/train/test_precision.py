"""The loss scale against torch's own GradScaler."""

import pytest
import torch

from coemogen_train.train import precision
from coemogen_train.train.precision import LossScale


def test_scale_grows_and_backs_off_as_torch_does(monkeypatch):
    monkeypatch.setattr(precision, "_INTERVAL", 3)
    ours = LossScale(True, torch.device("cpu"))
    theirs = torch.amp.GradScaler("cpu", init_scale=float(ours.scale), growth_interval=3)
    weight = torch.nn.Parameter(torch.ones(1))
    optimiser = torch.optim.SGD([weight], lr=0.0)
    for overflowed in [0, 0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0]:
        theirs.scale(weight.sum()).backward()
        if overflowed:
            weight.grad.fill_(float("inf"))
        theirs.step(optimiser)
        theirs.update()
        optimiser.zero_grad()
        ours.update(torch.tensor(bool(overflowed)))
        assert float(ours.scale) == theirs.get_scale()


def test_switched_off_it_is_always_one():
    scale = LossScale(False, torch.device("cpu"))
    scale.update(torch.tensor(True))
    assert float(scale.scale) == 1


def test_round_trip():
    scale, other = LossScale(True, torch.device("cpu")), LossScale(True, torch.device("cpu"))
    for overflowed in (True, False, False):
        scale.update(torch.tensor(overflowed))
    other.load_state_dict(scale.state_dict())
    assert other.state_dict() == scale.state_dict()


@pytest.mark.parametrize("seconds", [(59.6, "1:00"), (3723, "1:02:03"), (0, "0:00")])
def test_durations_read_well(seconds):
    from coemogen_train.train.progress import format_duration

    assert format_duration(seconds[0]) == seconds[1]


def test_a_device_that_knows_no_autocast_is_asked_for_none(monkeypatch):
    monkeypatch.setattr(precision, "is_autocast_available", lambda device_type: False)
    monkeypatch.setattr(torch, "autocast", None)
    with precision.autocast("mps", "fp32"), precision.without_autocast("mps"):
        pass
