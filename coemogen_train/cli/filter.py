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
    text: Annotated[
        str | None,
        typer.Option(help="Beside a clip_vision file: CLIP's text half as ComfyUI's text_encoders has it."),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(help="Use similarities that came with the pictures, such as the column similarity."),
    ] = None,
    agree: Annotated[
        bool,
        typer.Option("--agree", help="First drop pairs whose caption alone says another emotion."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be dropped; mark nothing.")
    ] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> Answer:
    """Score every caption against its picture with CLIP and drop the lowest fraction of each emotion.

    Needs a CLIP with both halves the first time; the scores stay in the set, so another --drop needs none.
    filter.html in the set shows the pictures around the cut. Several processes share the work.

    \b
    Example: coemogen_train filter sets/mine --vision openai/clip-vit-large-patch14
    """
    from ..data import TrainingSet
    from ..data.filter import PAGE, TRIAL_PAGE
    from ..data.filter import filter_set as filter_training_set
    from ..data.sharedwork import Crew
    from ..errors import UserError

    if text is not None and vision is None:
        raise UserError("--text is one half of a CLIP: name the clip_vision file with --vision.")
    training_set = TrainingSet.open(set_folder)
    clip = None
    if vision is not None:
        from ..base.vision import load_vision

        clip = load_vision(vision, pick_device(device), text=text)
    crew = Crew.from_environment()
    with progress_bar() as bar:
        report = filter_training_set(
            training_set,
            drop,
            clip,
            dry_run,
            progress=bar if crew.speaks else None,
            column=column,
            agree=agree,
            crew=crew,
        )
    page = training_set.root / (TRIAL_PAGE if dry_run else PAGE)
    data = {"set": set_folder, "dry_run": dry_run, "page": page, **report.to_dict()}
    return Answer(data, [*report.tables(), f"Look at {page}."])
