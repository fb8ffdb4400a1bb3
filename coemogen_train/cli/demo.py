"""`demo`: the whole method on the toy world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .answer import Answer
from .options import Json


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where everything goes.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another toy data set and another run.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Few steps and pictures: does it run?")] = False,
    as_json: Json = False,
) -> Answer:
    """The whole method on a bundled miniature, offline, in minutes.

    Data, captions, filter, training, Gaussians, pictures, metrics. Leaves adapter.safetensors, samples.png,
    report.json and report.html in DIR.

    \b
    Example: coemogen_train demo --out demo
    """
    from ..toyworld.demo import run_demo

    figures = run_demo(out, seed, quick)
    return Answer(figures, [f"{key}: {figures[key]}" for key in ("report", "samples", "adapter")])
