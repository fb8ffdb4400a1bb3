"""Several processes divide the draws among them: every position once, every emotion in its turn."""

import collections

import pytest

from tests.train.test_batches import ITEMS, NAMES, maker

EMOTIONS = len(NAMES)


def shares(batches, steps: int, size: int, processes: int) -> list[list[tuple[int, int]]]:
    """(step, position) of what each process draws."""
    return [
        [
            (step, position)
            for step in range(steps)
            for run in batches.micro_batches(step, size, process, processes)
            for position in run
        ]
        for process in range(processes)
    ]


@pytest.mark.parametrize(("size", "accumulate", "processes"), [(1, 1, 2), (2, 2, 2), (3, 1, 4), (1, 2, 3)])
def test_processes_draw_every_position_once_and_every_emotion_in_its_turn(size, accumulate, processes):
    """In every E consecutive draws of the whole, across steps and processes, each emotion occurs once."""
    whole, steps = size * accumulate * processes, 30
    batches = maker(whole, seed=7)
    parts = shares(batches, steps, size, processes)
    assert {len(part) for part in parts} == {steps * size * accumulate}
    assert sorted(place for part in parts for place in part) == [
        (step, position) for step in range(steps) for position in range(whole)
    ]
    drawn = {
        step * whole + position: batches._item(step, position).emotion
        for part in parts
        for step, position in part
    }
    order = [drawn[draw] for draw in range(steps * whole)]
    for turn in range(0, len(order) - EMOTIONS + 1, EMOTIONS):
        assert sorted(order[turn : turn + EMOTIONS]) == list(range(EMOTIONS))


def test_over_an_epoch_no_process_is_short_of_an_emotion():
    """Turns are shuffled: a process's share of an emotion is off by chance alone, and never by its number."""
    processes, epochs = 2, 40
    draws = epochs * max(collections.Counter(item.emotion for item in ITEMS).values()) * EMOTIONS
    batches = maker(processes, seed=7)
    for part in shares(batches, draws // processes, 1, processes):
        counts = collections.Counter(batches._item(*place).emotion for place in part)
        even = draws / EMOTIONS / processes
        # A turn gives a process each emotion or not: at most the deviation of as many throws of a coin.
        assert all(abs(counts[emotion] - even) <= 3 * (even / 2) ** 0.5 for emotion in range(EMOTIONS))


def test_where_a_micro_batch_is_whole_turns_every_process_has_exactly_the_same():
    batches = maker(2 * EMOTIONS * 2, seed=7)
    for part in shares(batches, 10, 2 * EMOTIONS, 2):
        counts = collections.Counter(batches._item(*place).emotion for place in part)
        assert set(counts.values()) == {20}
