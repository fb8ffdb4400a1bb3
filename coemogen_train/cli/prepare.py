"""`prepare`: from pictures as people have them to a training set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .answer import Answer
from .options import Json
from .progress import progress_bar


def prepare(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Folder per emotion, table, or toy.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(metavar="SET", help="Folder of the set.", show_default=False)],
    source_format: Annotated[
        str | None, typer.Option("--format", help="folder or table; recognised by itself unless told.")
    ] = None,
    taxonomy: Annotated[str, typer.Option(help="mikels, or a TOML file with your own emotions.")] = "mikels",
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy the pictures into the set; else they stay.")
    ] = False,
    licence: Annotated[str, typer.Option(help="Licence of the pictures; the adapter will tell it.")] = "",
    origin: Annotated[str, typer.Option(help="Where the pictures are from; the adapter will tell it.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="For toy: which pictures are drawn.")] = 0,
    as_json: Json = False,
) -> Answer:
    """Read pictures into a set, verify every one, and tell what was found and what is wrong.

    SOURCE is a folder with a subfolder per emotion, a table (CSV, TSV, JSON lines, Parquet) with the columns
    image, emotion and, where there is one, caption; or toy, which draws the miniature's pictures.

    \b
    Example: coemogen_train prepare photos --out sets/mine
    """
    from ..data import PrepareOptions, prepare_toy
    from ..data import prepare as prepare_set
    from ..emotions import load_taxonomy

    options = PrepareOptions(load_taxonomy(taxonomy), copy=copy, licence=licence, origin=origin)
    with progress_bar() as progress:
        if source == "toy":
            report = prepare_toy(out, seed, options, progress)
        else:
            report = prepare_set(source, out, options, source_format, progress)
    return Answer({"set": out, **report.to_dict()}, [*report.tables(), f"The set is {out}."])
