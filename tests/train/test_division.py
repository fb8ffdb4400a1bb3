"""A run goes on with another number of processes wherever they can share its effective batch equally."""

from pathlib import Path

import pytest
import torch

from coemogen_train.errors import ConfigError
from coemogen_train.train.config import make_config
from coemogen_train.train.division import Division, divided
from coemogen_train.train.loop import train
from coemogen_train.train.plan import make_plan
from coemogen_train.train.start import begin

WHERE = Path("run/checkpoints")


def config_of(batch_size: int, accumulate: int):
    paths = {"base": "toy", "vision": "toy", "set": "set", "out": "run"}
    return make_config(paths | {"batch_size": batch_size, "accumulate": accumulate})


@pytest.mark.parametrize(
    ("begun", "processes", "asked", "expected"),
    [
        ((2, 4, 1), 1, (4, 1), (4, 2)),  # the batch stays, more are accumulated
        ((1, 4, 4), 4, (4, 4), (4, 1)),
        ((1, 4, 4), 8, (4, 4), (2, 1)),  # what is left for each is less than its batch
        ((2, 3, 2), 3, (3, 2), (2, 2)),  # 3 does not divide the 4 of each: the largest that does
        ((8, 1, 1), 1, (1, 1), (1, 8)),
        ((2, 4, 1), 1, (2, 4), (2, 4)),  # the settings make it up already
        ((2, 4, 1), 1, (2, 1), (2, 4)),  # a smaller card: the batch that was asked for, and the run's steps
    ],
)
def test_the_effective_batch_stays(begun, processes, asked, expected):
    config, _ = divided(config_of(*asked), processes, Division(*begun), WHERE)
    assert (config.batch_size, config.accumulate) == expected
    assert Division.of(config, processes).whole == Division(*begun).whole


def test_what_is_divided_otherwise_is_told_in_a_sentence():
    told = divided(config_of(4, 1), 1, Division(2, 4, 1), WHERE)[1]
    assert told == (
        "the run was begun with 2 processes of 4 x 1 pictures: 1 process goes on with 4 x 2, which makes the "
        "same steps."
    )
    assert divided(config_of(4, 1), 2, Division(2, 4, 1), WHERE)[1] is None


def test_processes_that_cannot_share_equally_are_told_which_numbers_can():
    with pytest.raises(ConfigError, match=r"takes 4 pictures, which 3 processes .* with 1, 2 or 4 of them\."):
        divided(config_of(2, 1), 3, Division(2, 2, 1), WHERE)


def test_a_run_is_planned_as_it_goes_on_and_goes_back_to_the_old_number(settings):
    """The plan, the memory and what is stored are of the new division; the old number needs nothing set."""
    config = make_config(settings | {"steps": 2})
    train(config, progress=False)
    start = begin(make_config(settings), resume=True, processes=2)
    plan = make_plan(start.config, start, 2, torch.device("cpu"))
    assert (plan.batch.processes, plan.batch.batch_size, plan.batch.effective_batch) == (2, 2, 4)
    assert any("2 processes go on with 2 x 1" in warning for warning in plan.warnings)
    again = begin(make_config(settings), resume=True, processes=1)
    assert again.division is None and again.config.batch_size == 4
    with pytest.raises(ConfigError, match="with 1, 2 or 4 of them"):
        begin(make_config(settings), resume=True, processes=3)
    # As many processes as ever: then it is the settings that are wrong.
    with pytest.raises(ConfigError, match="batch_size was 4 and is now 2"):
        begin(make_config(settings | {"batch_size": 2}), resume=True, processes=1)
