"""The time of a run: an estimate, told as one."""

import pytest
import torch

from coemogen_train.train.rehearsal import Rehearsal
from coemogen_train.train.speed import UTILISATION, DeviceSpeed, measure_speed, readable_duration


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.2, "1 s"),
        (59, "59 s"),
        (150, "2 min"),
        (3 * 3600 + 700, "3.2 h"),
        (30 * 3600, "30 h"),
        (4 * 86400, "4 days"),
    ],
)
def test_durations_are_as_exact_as_they_are_known(seconds, told):
    assert readable_duration(seconds) == told


def test_time_is_products_and_movement_and_calls():
    speed = DeviceSpeed(flops=1e12, bytes_moved=1e10)
    alone = [
        speed.seconds(work)
        for work in (Rehearsal(0, 10**12, 0, 0), Rehearsal(0, 0, 10**10, 0), Rehearsal(0, 0, 0, 1000))
    ]
    assert alone[0] == pytest.approx(1 / UTILISATION)
    assert alone[1] == pytest.approx(1)
    assert alone[2] > 0
    assert speed.seconds(Rehearsal(0, 10**12, 10**10, 1000)) == pytest.approx(sum(alone))


def test_a_machine_is_measured_within_its_bounds():
    speed = measure_speed(torch.device("cpu"), torch.float32)
    assert 1e8 < speed.flops < 1e15  # from a watch to ten thousand cores
    assert 1e7 < speed.bytes_moved < 1e14
