"""Batches made ahead in a thread: the same ones, one at most, and their faults where they belong."""

import logging
import sys
from threading import Thread, active_count, current_thread, main_thread
from types import SimpleNamespace

import pytest
import torch

from coemogen_train.errors import DataError
from coemogen_train.train import prefetch
from coemogen_train.train.batches import Batch
from coemogen_train.train.prefetch import NextBatch, micro_batches


class Made:
    """Batches that name themselves, and tell in which thread they were made."""

    def __init__(self) -> None:
        self.by_thread: list[tuple[int, tuple[int, ...], bool]] = []
        self.damaged: set[int] = set()

    def micro_batches(self, step, size, process, processes):
        return [[0, 1], [2, 3]]

    def batch(self, step, positions):
        self.by_thread.append((step, tuple(positions), current_thread() is main_thread()))
        if step in self.damaged:
            raise DataError(f"shard of step {step} is damaged: make it anew.")
        return Named(step, tuple(positions))


class Named(SimpleNamespace):
    def __init__(self, step, positions):
        super().__init__(step=step, positions=positions)

    def to(self, device):
        return self


@pytest.fixture()
def run():
    return SimpleNamespace(
        batches=Made(),
        next_batch=NextBatch(),
        device=torch.device("cpu"),
        config=SimpleNamespace(batch_size=2, steps=3),
        accelerator=SimpleNamespace(process_index=0, num_processes=1),
    )


def take(run, step):
    with micro_batches(run, step) as turns:
        return [(batch.step, batch.positions, last) for _, batch, last in turns]


def test_each_batch_comes_in_its_turn_and_is_made_once_ahead_of_it(run):
    for step in range(3):
        assert take(run, step) == [(step, (0, 1), False), (step, (2, 3), True)]
    wanted = [(step, positions, False) for step in range(3) for positions in ((0, 1), (2, 3))]
    wanted[0] = (0, (0, 1), True)  # the first of all is waited for, and after the last none is made
    assert run.batches.by_thread == wanted


def test_a_fault_is_raised_at_the_step_it_belongs_to_with_its_own_message(run):
    run.batches.damaged = {1}
    take(run, 0)
    with pytest.raises(DataError, match="shard of step 1"):
        take(run, 1)


def test_a_fault_that_has_passed_is_none_but_for_the_log(run, caplog):
    run.batches.damaged = {1}
    take(run, 0)
    run.batches.damaged = set()
    with caplog.at_level(logging.DEBUG, logger=prefetch.__name__):
        assert take(run, 1)[0] == (1, (0, 1), False)
    assert "shard of step 1" in caplog.text


def test_where_no_thread_starts_all_is_made_in_line(run, monkeypatch):
    def refused(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Thread, "start", refused)
    assert take(run, 0) == [(0, (0, 1), False), (0, (2, 3), True)]
    assert [in_line for *_, in_line in run.batches.by_thread] == [True, True]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_thread_that_made_nothing():
    ahead = NextBatch()
    ahead.begin(sys.exit)
    assert ahead.take(0, [0]) is None


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_in_the_making_after_a_step_or_an_error_in_it(run, error):
    threads = active_count()
    take(run, 0)
    assert active_count() == threads
    with pytest.raises(error), micro_batches(run, 1) as turns:
        next(turns)
        raise error
    assert active_count() == threads


def test_another_step_than_the_one_made_ahead_gets_its_own(run):
    take(run, 0)
    assert take(run, 2) == [(2, (0, 1), False), (2, (2, 3), True)]


def test_a_batch_keeps_what_it_lacks_wherever_it_goes(monkeypatch):
    names = "latents noise timesteps image_embeds emotion prompt_ids prompt_start caption_ids drop_condition"
    batch = Batch(**{name: torch.ones(2) for name in names.split()})
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)
    pinned = batch.pin_memory()
    assert pinned.noise.tolist() == [2, 2] and pinned.caption_hidden is None
