"""`filter`: the pairs whose caption fits its picture worst are dropped."""

from __future__ import annotations

from typing import Annotated

import typer

from .answer import Answer
from .options import Device, Json, OptionalVision, SetFolder, pick_device
from .progress import progress_bar


def filter_set(
    set_folder: SetFolder,
    drop: Annotated[float, typer.Option(help="Share of each emotion; 0 takes everything back.")] = 0.2,
    vision: OptionalVision = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be dropped; mark nothing.")
    ] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> Answer:
    """Score every caption against its picture with CLIP and drop the lowest fraction of each emotion.

    Needs a CLIP with both towers the first time; the scores stay in the set, so another --drop needs none.

    \b
    Example: coemogen_train filter sets/mine --vision openai/clip-vit-large-patch14
    """
    from ..data import TrainingSet
    from ..data.filter import filter_set as filter_training_set

    training_set = TrainingSet.open(set_folder)
    clip = None
    if vision is not None:
        from ..base.vision import load_vision

        clip = load_vision(vision, pick_device(device))
    with progress_bar() as progress:
        report = filter_training_set(training_set, drop, clip, dry_run, progress=progress)
    return Answer({"set": set_folder, "dry_run": dry_run, **report.to_dict()}, report.tables())
