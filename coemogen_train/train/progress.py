"""The progress bar: both losses and the time left, on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from .history import StepRecord

if TYPE_CHECKING:
    from rich.progress import TaskID


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


class TrainingProgress:
    """A bar on standard error while entered, or none. Saving and drawing do not count as steps."""

    def __init__(self, steps: int, done: int, shown: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._progress = Progress(
            TextColumn("train"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            disable=not shown,
        )
        self._task = self._progress.add_task("...", total=steps, completed=done)
        self._steps, self._first, self._seconds = steps, done, 0.0
        self._since: float | None = None

    def __enter__(self) -> TrainingProgress:
        self._progress.start()
        self._since = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Leave what happens inside out of the time per step."""
        self._count()
        yield
        self._since = time.monotonic()

    def update(self, record: StepRecord) -> None:
        """Show a step that has been read from the device."""
        self._count()
        done = record.step - self._first
        per_step = self._seconds / max(done, 1)
        left = format_duration(per_step * (self._steps - record.step))
        text = (
            f"denoising {_number(record.ldm)}  semantic {_number(record.semantic)}  "
            f"{per_step:.2f} s/step  {left} left"
        )
        self._progress.update(self._task, completed=record.step, description=text)

    def _count(self) -> None:
        now = time.monotonic()
        self._seconds += now - (self._since or now)
        self._since = now


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4f}"
