"""The time left is right when costs are constant: after pauses, after resumption, after a slow first step."""

import logging

import pytest

from coemogen_train.train.history import StepRecord
from coemogen_train.train.progress import TrainingProgress, format_duration
from coemogen_train.train.spill import SlowdownWatch

COSTS = {"save": 7.0, "validate": 50.0, "preview": 31.0}
PERIODS = {"save": 30, "validate": 20, "preview": 0}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def record(step: int, ldm: float | None = 0.25) -> StepRecord:
    return StepRecord(step, ldm, 0.5, 1.0, 1e-3)


def bar_of(clock, steps=100, done=0, pauses=PERIODS, shown=False) -> TrainingProgress:
    return TrainingProgress(steps, done, shown, pauses, clock)


def due_at(step, steps, periods) -> list[str]:
    """As the loop has it: at the end it always saves, and validates where it does so at all."""
    always = [kind for kind in ("save", "validate") if kind == "save" or periods["validate"]]
    last = always if step == steps else []
    return [kind for kind, period in periods.items() if (period and step % period == 0) or kind in last]


def simulate(bar, clock, done, steps, cost=2.0, log_every=10, periods=PERIODS, after=lambda step: None):
    """Do what the loop does, in a world where every step and every pause costs what it costs."""
    with bar:
        for step in range(done + 1, steps + 1):
            clock.now += cost if isinstance(cost, float) else cost(step)
            due = due_at(step, steps, periods)
            if step % log_every == 0 or due:
                bar.update(record(step))
            for kind in due:
                with bar.pause(kind):
                    clock.now += COSTS[kind]
            after(step)


def true_end(done=0, steps=100, cost=2.0, begin=1000.0) -> float:
    pauses = sum(COSTS[kind] for step in range(done + 1, steps + 1) for kind in due_at(step, steps, PERIODS))
    return begin + cost * (steps - done) + pauses


@pytest.mark.parametrize("done", [0, 25, 30, 60])
def test_time_left_is_exact_once_every_kind_of_pause_was_seen(done):
    clock = Clock()
    bar = bar_of(clock, done=done)
    ends = {}
    simulate(bar, clock, done, 100, after=lambda step: ends.update({step: clock.now + bar.seconds_left}))
    known = max((done // period + 1) * period for period in PERIODS.values() if period)
    read = [step for step in range(known, 101) if step % 10 == 0]
    assert read and [ends[step] for step in read] == pytest.approx([true_end(done)] * len(read))
    assert clock.now == true_end(done)


def test_before_a_pause_the_time_left_has_it_and_after_it_no_more():
    clock = Clock()
    bar = bar_of(clock, steps=40, pauses={"validate": 20})
    with bar:
        for step in (10, 20):
            clock.now += 20.0
            bar.update(record(step))
        assert bar.seconds_left == 40.0  # never measured: nothing is known of it
        with bar.pause("validate"):
            clock.now += 50.0
        assert bar.seconds_left == 40.0 + 50.0  # the one of step 40
        clock.now += 40.0
        bar.update(record(40))
        assert bar.seconds_left == 50.0
        with bar.pause("validate"):
            clock.now += 60.0
        assert bar.seconds_left == 0.0


def test_the_last_pause_of_a_kind_is_what_the_next_is_expected_to_take():
    clock = Clock()
    with bar_of(clock, steps=30, pauses={"save": 10}) as bar:
        for step, cost in ((10, 100.0), (20, 8.0)):
            clock.now += 10.0
            bar.update(record(step))
            with bar.pause("save"):
                clock.now += cost
        assert bar.seconds_left == 10.0 + 8.0


@pytest.mark.parametrize(("kind", "at_the_end"), [("preview", 0.0), ("validate", 0.0), ("save", 100.0)])
def test_a_pause_asked_for_out_of_turn_is_no_step_and_only_a_save_comes_again(kind, at_the_end):
    clock = Clock()
    with bar_of(clock, steps=30, pauses={kind: 0}) as bar:
        for step in (10, 20):
            clock.now += 10.0
            bar.update(record(step))
            with bar.pause(kind):
                clock.now += 100.0
        assert (bar.seconds_per_step, bar.seconds_left) == (1.0, 10.0 + at_the_end)


def test_pauses_are_never_in_the_seconds_per_step():
    clock = Clock()
    bar = bar_of(clock)
    seen = []
    simulate(bar, clock, 0, 100, after=lambda step: seen.append(bar.seconds_per_step))
    assert seen[9:] == pytest.approx([2.0] * 91)


def test_a_slow_first_step_is_forgotten_at_the_second_reading():
    clock = Clock()
    bar = bar_of(clock, steps=40)
    seen = {}
    simulate(
        bar,
        clock,
        0,
        40,
        cost=lambda step: 90.0 if step == 1 else 1.0,
        after=lambda step: seen.update({step: bar.seconds_per_step}),
    )
    assert seen[10] == pytest.approx(9.9)
    assert seen[20] == seen[40] == 1.0


def test_a_change_is_followed_within_ten_readings():
    clock = Clock()
    bar = bar_of(clock, steps=400)
    seen = {}
    simulate(
        bar,
        clock,
        0,
        400,
        cost=lambda step: 1.0 if step <= 200 else 4.0,
        after=lambda step: seen.update({step: bar.seconds_per_step}),
    )
    assert seen[200] == 1.0
    assert seen[300] == pytest.approx(4.0, rel=0.12)


def test_a_pause_that_fails_is_not_counted_as_steps():
    clock = Clock()
    with bar_of(clock) as bar:
        with pytest.raises(OSError), bar.pause("save"):
            clock.now += 100.0
            raise OSError
        clock.now += 10.0
        bar.update(record(10))
        assert bar.seconds_per_step == 1.0


def test_nothing_is_known_before_the_first_reading():
    bar = bar_of(Clock())
    assert (bar.seconds_per_step, bar.seconds_left) == (0.0, 0.0)


def test_an_unknown_kind_of_pause_is_our_fault():
    with bar_of(Clock()) as bar, pytest.raises(KeyError), bar.pause("rest"):
        pass


def test_the_bar_shows_both_losses_pace_and_time_left(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    clock = Clock()
    with bar_of(clock, steps=1000, shown=True) as bar:
        clock.now += 25.0
        bar.update(record(10))
    shown = capsys.readouterr().err
    for text in ("10/1000", "denoising 0.2500", "semantic 0.5000", "2.50 s/step", "41:15 left"):
        assert text in shown


def test_a_loss_that_is_not_finite_is_said_in_words(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with bar_of(Clock(), shown=True) as bar:
        bar.update(record(1, ldm=None))
    assert "denoising not finite" in capsys.readouterr().err


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (3723, "1:02:03")])
def test_durations_read_as_people_write_them(seconds, text):
    assert format_duration(seconds) == text


def warnings_of(caplog, readings) -> list[str]:
    caplog.set_level(logging.WARNING)
    watch = SlowdownWatch()
    for seconds in readings:
        watch.reading(seconds)
    return [entry.getMessage() for entry in caplog.records]


def test_steps_that_become_three_times_slower_are_told_once(caplog):
    told = warnings_of(caplog, [2.0] * 20 + [40.0] * 50)
    assert len(told) == 1
    assert "40.0 s now and took 2.0 s before" in told[0] and "batch_size" in told[0]


@pytest.mark.parametrize(
    "readings",
    [
        [60.0, *[2.0] * 30],  # a slow first step
        [*[2.0] * 20, 40.0, 40.0, *[2.0] * 20],  # a hiccup
        [2.0] * 10 + [5.0] * 30,  # less than three times
        [0.01] * 10 + [0.5] * 30,  # nobody waits for it
    ],
)
def test_what_is_no_slowdown_is_not_told(caplog, readings):
    assert not warnings_of(caplog, readings)


def test_the_bar_watches_the_pace_of_the_steps_and_not_of_the_pauses(caplog):
    caplog.set_level(logging.WARNING)
    clock = Clock()
    simulate(bar_of(clock, steps=400), clock, 0, 400)
    assert not caplog.records
    clock = Clock()
    simulate(bar_of(clock, steps=400), clock, 0, 400, cost=lambda step: 1.0 if step < 200 else 30.0)
    assert len(caplog.records) == 1


def with_gpu(monkeypatch, free: int, used: bool = True) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: used)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (free, 8 * 2**30))


def test_a_full_gpu_is_told_once(caplog, monkeypatch):
    with_gpu(monkeypatch, free=2**27)
    told = warnings_of(caplog, [1.0] * 5)
    assert len(told) == 1 and "7.9 of 8.0 GiB" in told[0]


@pytest.mark.parametrize(("free", "used"), [(2**30, True), (0, False)])
def test_a_gpu_with_room_or_without_part_in_the_run_is_not_told(caplog, monkeypatch, free, used):
    with_gpu(monkeypatch, free, used)
    assert not warnings_of(caplog, [1.0] * 5)
