"""The progress bar: both losses and the time left, on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from .history import StepRecord
from .spill import SlowdownWatch

if TYPE_CHECKING:
    from rich.progress import TaskID

_KEPT = 0.8  # of a reading's weight at the next one: the mean reaches some five readings back
_DOING = {"save": "saving", "validate": "validating", "preview": "drawing previews"}


def format_duration(seconds: float) -> str:
    """Write a duration as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def stage_progress(shown: bool) -> Iterator[Callable[[str, int, int | None], None] | None]:
    """Yield a `progress(stage, done, total)` that shows a bar per stage on standard error, or None."""
    if not shown:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage)
            bars.update(tasks[stage], completed=done, total=total)

        yield show


class Pace:
    """What a step and each kind of pause cost lately, and what is left of both.

    Arguments:
        steps, done: of the run; `done` is where it begins or is resumed.
        periods: steps between two pauses of a kind; 0 = none is due. Besides, a run saves at its end, and
            validates there where it does so at all.
    """

    def __init__(self, steps: int, done: int, periods: Mapping[str, int]) -> None:
        self._steps, self._step = steps, done
        self._periods = dict.fromkeys(_DOING, 0) | dict(periods)
        self._seconds, self._weight, self._readings = 0.0, 0.0, 0
        self._lasted = dict.fromkeys(_DOING, 0.0)  # seconds of the last pause of each kind
        self._paused_at = dict.fromkeys(_DOING, done)

    def step_read(self, step: int, seconds: float) -> float:
        """Take in that the steps up to `step` took `seconds`, pauses apart; gives their seconds per step."""
        new = step - self._step
        # The first reading has the warm-up in it (kernels are chosen): it counts until there is another.
        kept = _KEPT if self._readings > 1 else 0.0
        self._seconds = kept * self._seconds + seconds
        self._weight = kept * self._weight + new
        self._step, self._readings = step, self._readings + 1
        return seconds / new

    def paused(self, kind: str, seconds: float) -> None:
        """Take in that a pause at the step read last took `seconds`."""
        self._lasted[kind], self._paused_at[kind] = seconds, self._step

    @property
    def step(self) -> int:
        return self._step

    @property
    def seconds_per_step(self) -> float:
        """Mean over the last readings, the newer ones counting more; 0 before the first."""
        return self._seconds / self._weight if self._weight else 0.0

    @property
    def seconds_left(self) -> float:
        """Of the steps and pauses to come; a kind that has not happened yet counts as nothing."""
        pauses = sum(self._still_due(kind) * seconds for kind, seconds in self._lasted.items())
        return self.seconds_per_step * (self._steps - self._step) + pauses

    def _still_due(self, kind: str) -> int:
        period = self._periods[kind]
        # What is due at this very step comes after its reading.
        told = max(self._paused_at[kind], self._step - 1)
        regular = self._steps // period - told // period if period else 0
        at_end = kind == "save" or (kind == "validate" and period > 0)
        between = not period or self._steps % period > 0
        return regular + (at_end and between and told < self._steps)


class TrainingProgress:
    """A bar on standard error while entered, or none: both losses, seconds per step, time left.

    Arguments:
        steps, done: of the run; `done` is where it begins or is resumed.
        shown: whether to draw; times are kept all the same.
        pauses: steps between two pauses of a kind, among "save", "validate" and "preview"; 0 = never.
        clock: seconds from any start.
    """

    def __init__(
        self,
        steps: int,
        done: int,
        shown: bool,
        pauses: Mapping[str, int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("train"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            disable=not shown,
        )
        self._task = self._progress.add_task("...", total=steps, completed=done)
        self._pace, self._watch, self._losses = Pace(steps, done, pauses), SlowdownWatch(), ""
        self._clock, self._busy, self._since = clock, 0.0, clock()

    def __enter__(self) -> TrainingProgress:
        self._progress.start()
        self._since = self._clock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    @property
    def seconds_per_step(self) -> float:
        """Of late, pauses apart; 0 before the first reading."""
        return self._pace.seconds_per_step

    @property
    def seconds_left(self) -> float:
        """Of the steps and the pauses to come."""
        return self._pace.seconds_left

    @contextmanager
    def pause(self, kind: str) -> Iterator[None]:
        """Leave what happens inside out of the time per step, and expect as long of the next of its kind.

        kind: "save", "validate" or "preview". Pauses follow one another, none is inside another.
        """
        self._count()
        self._show(_DOING[kind])
        try:
            yield
            self._pace.paused(kind, self._clock() - self._since)
        finally:
            self._since = self._clock()
            self._show()

    def update(self, record: StepRecord) -> None:
        """Show a step that has been read from the device; warn where steps have become strangely slow."""
        self._count()
        if record.step > self._pace.step:
            self._watch.reading(self._pace.step_read(record.step, self._busy))
            self._busy = 0.0
        self._losses = f"denoising {_number(record.ldm)}  semantic {_number(record.semantic)}"
        self._show()

    def _show(self, doing: str = "") -> None:
        left = doing or f"{format_duration(self.seconds_left)} left"
        text = (
            f"{self._losses}  {self.seconds_per_step:.2f} s/step  {left}" if self._losses else doing or "..."
        )
        self._progress.update(self._task, completed=self._pace.step, description=text)

    def _count(self) -> None:
        now = self._clock()
        self._busy += now - self._since
        self._since = now


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4f}"
