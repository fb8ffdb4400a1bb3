"""`cache`: latents and CLIP features, computed once."""

from __future__ import annotations

from typing import Annotated

import typer

from .answer import Answer
from .options import Base, Device, Json, SetFolder, Vision, pick_device
from .progress import progress_bar


def cache(
    set_folder: SetFolder,
    base: Base,
    vision: Vision,
    resolution: Annotated[
        int | None, typer.Option(min=8, help="Side in pixels, as in training; the base's own unless given.")
    ] = None,
    flip: Annotated[bool, typer.Option(help="Mirrored latents too, as in training.")] = True,
    device: Device = "auto",
    as_json: Json = False,
) -> Answer:
    """Compute what is missing of a set's latents and CLIP features; train calls this by itself.

    Keys are contents: another base, resolution or picture is computed anew, a renamed file is not. Stopped
    work goes on where it was.

    \b
    Example: coemogen_train cache sets/mine --base sd15.safetensors --vision clip_vision.safetensors
    """
    from ..base.load import load_base
    from ..base.vision import load_vision
    from ..data import TrainingSet
    from ..data.cache import build_cache

    training_set = TrainingSet.open(set_folder)
    place = pick_device(device)
    model, clip = load_base(base, place), load_vision(vision, place)
    with progress_bar() as progress:
        build_cache(training_set, model, clip, resolution, flip, progress=progress)
    data = {
        "set": set_folder,
        "cache": training_set.cache_folder,
        "base": model.name,
        "vision": clip.name,
        "resolution": resolution or model.resolution,
        "flip": flip,
        "latents": len(training_set.samples("train")),
        "image_embeds": len(training_set.samples()),
    }
    told = f"{data['latents']} latents and {data['image_embeds']} CLIP features are in {data['cache']}."
    return Answer(data, [told])
