"""The toy world as a source: its scenes are drawn into the set's own folder and read like anybody's table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from .prepare import PrepareOptions, Progress, prepare_table
from .report import PrepareReport
from .sharedwork import ALONE, Crew


def prepare_toy(
    out: str | Path,
    seed: int = 0,
    options: PrepareOptions = PrepareOptions(),  # noqa: B008 - frozen
    progress: Progress | None = None,
    crew: Crew = ALONE,
    **drawing: Any,
) -> PrepareReport:
    """Draw toy pictures to SET/source and make the set `out` from them.

    drawing: further arguments of `toyworld.dataset.write_toy_source`, such as how many pictures, in which
        style, of which emotions. The set's taxonomy holds these alone, unless `options` brings another.

    Raises:
        UserError: an emotion without stories, or a style that there is not.
    """
    from ..toyworld.dataset import toy_taxonomy, write_toy_source

    folder = Path(out) / "source"
    write_toy_source(folder, seed, **drawing)
    style = drawing.get("style", "plain")
    told = f"toy world, seed {seed}" + ("" if style == "plain" else f", {style}")
    taxonomy = options.taxonomy or toy_taxonomy(drawing.get("emotions"))
    known = replace(
        options,
        taxonomy=taxonomy,
        licence=options.licence or "Apache-2.0",
        origin=options.origin or told,
    )
    return prepare_table(folder / "samples.jsonl", out, known, progress, crew)
