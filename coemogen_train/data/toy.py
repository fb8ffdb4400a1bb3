"""The toy world as a source: its scenes are drawn into the set's own folder and read like anybody's table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from .prepare import PrepareOptions, Progress, prepare_table
from .report import PrepareReport


def prepare_toy(
    out: str | Path,
    seed: int = 0,
    options: PrepareOptions = PrepareOptions(),  # noqa: B008 - frozen
    progress: Progress | None = None,
    **drawing: Any,
) -> PrepareReport:
    """Draw toy pictures to SET/source and make the set `out` from them.

    drawing: further arguments of `toyworld.dataset.write_toy_source`, such as how many pictures.
    """
    from ..toyworld.dataset import write_toy_source

    folder = Path(out) / "source"
    write_toy_source(folder, seed, **drawing)
    known = replace(
        options, licence=options.licence or "Apache-2.0", origin=options.origin or f"toy world, seed {seed}"
    )
    return prepare_table(folder / "samples.jsonl", out, known, progress)
