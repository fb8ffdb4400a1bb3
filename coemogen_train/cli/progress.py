"""Progress on standard error: a bar with the time left for each stage of a command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Report = Callable[[str, int, "int | None"], None]
"""report(stage, done, total): total is None while it is not known."""


@contextmanager
def progress_bar() -> Iterator[Report]:
    """Yield a function that shows how far a stage has come; each new stage gets a bar of its own.

    Of several processes that share the work, one shows it.
    """
    if os.environ.get("RANK", "0") != "0":
        yield lambda _stage, _done, _total: None
        return
    from rich import progress as rich
    from rich.console import Console

    bars = rich.Progress(
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TimeElapsedColumn(),
        rich.TextColumn("ETA"),
        rich.TimeRemainingColumn(),
        console=Console(file=sys.stderr),
    )
    stages: dict[str, Any] = {}

    def report(stage: str, done: int, total: int | None) -> None:
        bars.start()  # not before there is something to show; again, it does nothing
        if stage not in stages:
            stages[stage] = bars.add_task(stage, total=total)
        bars.update(stages[stage], completed=done, total=total)

    try:
        yield report
    finally:
        if stages:
            bars.stop()
