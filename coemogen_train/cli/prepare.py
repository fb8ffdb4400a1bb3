"""`prepare`: from pictures as people have them to a training set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .answer import Answer
from .options import Device, Json, OptionalVision, pick_device
from .progress import progress_bar

if TYPE_CHECKING:
    from ..data.reading import Labeller

HUB = "hf:"


def prepare(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Folder, table, .tar shards, hf:owner/name for a set on Hugging Face, or toy.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="SET", help="Folder of the set.", show_default=False)],
    source_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="emoset, emoart, artemis, emotion6, findingemo, webdataset, parquet, table, folder, or "
            "pictures (no labels); recognised by itself unless told.",
        ),
    ] = None,
    taxonomy: Annotated[
        str | None,
        typer.Option(
            help="mikels, emoart, ekman, plutchik, or a TOML file with your own emotions; the format's own "
            "unless given, else mikels."
        ),
    ] = None,
    probe: Annotated[
        Path | None,
        typer.Option(help="Emotion probe that labels pictures without a label; needs --vision."),
    ] = None,
    vision: OptionalVision = None,
    floor: Annotated[
        float, typer.Option(min=0, max=1, help="How sure the probe has to be; less is reported, not used.")
    ] = 0.75,
    copy: Annotated[
        bool,
        typer.Option("--copy", help="Copy the pictures into the set; else they stay."),
    ] = False,
    val: Annotated[
        float, typer.Option(help="Share held out for validation if the source has no split.")
    ] = 0.05,
    test: Annotated[
        float, typer.Option(help="Share held out for testing if the source has no split.")
    ] = 0.05,
    licence: Annotated[str, typer.Option(help="Licence of the pictures; the adapter will tell it.")] = "",
    origin: Annotated[str, typer.Option(help="Where the pictures are from; the adapter will tell it.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="For toy: which pictures are drawn.")] = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> Answer:
    """Read pictures into a set, verify every one, and tell what was found and what is wrong.

    SOURCE is a folder with a subfolder per emotion (captions in .txt files beside the pictures), a table
    (CSV, TSV, JSON lines, Parquet) with the columns image, emotion and, where there is one, caption, or one
    of the published data sets as it was downloaded. A stopped run goes on when it is run again, and several
    processes share the work (accelerate launch -m coemogen_train prepare ...).

    \b
    Example: coemogen_train prepare photos --out sets/mine
    """
    from ..data import Crew, PrepareOptions, SplitRule, prepare_toy
    from ..data import prepare as prepare_set
    from ..emotions import load_taxonomy

    options = PrepareOptions(
        taxonomy=None if taxonomy is None else load_taxonomy(taxonomy),
        copy=copy,
        licence=licence,
        origin=origin,
        splits=SplitRule(val, test),
        labeller=None if probe is None else _labeller(probe, vision, floor, pick_device(device)),
    )
    crew = Crew.from_environment()
    with progress_bar() as progress:
        if source == "toy":
            report = prepare_toy(out, seed, options, progress, crew)
        else:
            place = _fetched(source.removeprefix(HUB), out) if source.startswith(HUB) else Path(source)
            report = prepare_set(place, out, options, source_format, progress, crew)
    return Answer({"set": out, **report.to_dict()}, [*report.tables(), f"The set is {out}."])


def _fetched(name: str, out: Path) -> Path:
    from ..data.sources.hub import fetch_hub_set

    return fetch_hub_set(name, out / "source")


def _labeller(probe: Path, vision: str | None, floor: float, device: str) -> Labeller:
    from ..base.vision import load_vision
    from ..errors import UserError
    from ..evaluate.labeller import ProbeLabeller
    from ..evaluate.probe_file import load_probe

    if vision is None:
        raise UserError("--probe sees pictures through a CLIP: name the one it was trained with by --vision.")
    return ProbeLabeller(load_probe(probe), load_vision(vision, device), floor)
