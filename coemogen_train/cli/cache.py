"""`cache`: latents, CLIP features and what else training reads instead of pictures, computed once."""

from __future__ import annotations

from contextlib import nullcontext
from enum import Enum
from typing import Annotated

import typer

from .answer import Answer
from .options import Base, Device, Json, SetFolder, Vision, pick_device
from .progress import progress_bar


class Stored(str, Enum):
    """A type of numbers on the disk."""

    float16 = "float16"
    float32 = "float32"


def cache(
    set_folder: SetFolder,
    base: Base,
    vision: Vision,
    resolution: Annotated[
        int | None, typer.Option(min=8, help="Side in pixels, as in training; the base's own unless given.")
    ] = None,
    flip: Annotated[bool, typer.Option(help="Mirrored latents too, as in training.")] = True,
    buckets: Annotated[
        bool,
        typer.Option(
            "--buckets",
            help="Each picture in the shape nearest to its own, for training with aspect_buckets=true.",
        ),
    ] = False,
    captions: Annotated[
        bool,
        typer.Option(
            "--captions",
            help="What the text encoder makes of the captions too, for training with cache_captions: "
            "118 KB each with SD 1.5.",
        ),
    ] = False,
    caption_dtype: Annotated[
        Stored, typer.Option(help="How these are stored: float16 as for cache_captions=true.")
    ] = Stored.float16,
    device: Device = "auto",
    as_json: Json = False,
) -> Answer:
    """Compute what is missing of a set's latents and CLIP features; train calls this by itself.

    Keys are contents: another base, resolution or picture is computed anew, a renamed file is not. Stopped
    work goes on where it was. Several processes share it, started by accelerate launch or on their own, on
    machines that see the set's folder; each takes the GPU of its number.

    \b
    Example: coemogen_train cache sets/mine --base sd15.safetensors --vision clip_vision.safetensors
    """
    from ..base.load import load_base
    from ..base.vision import load_vision
    from ..data import TrainingSet
    from ..data.buckets import bucket_sizes, size_multiple
    from ..data.cache import CacheOptions, build_cache
    from ..data.caption_features import CaptionEncoder
    from ..data.sharedwork import Crew

    training_set, crew = TrainingSet.open(set_folder), Crew.from_environment()
    place = pick_device(device)
    model, clip = load_base(base, place), load_vision(vision, place)
    side = resolution or model.resolution
    with progress_bar() if crew.speaks else nullcontext() as progress:
        made = build_cache(
            training_set,
            model,
            clip,
            side,
            flip,
            CacheOptions(caption_dtype=caption_dtype.value),
            progress,
            captions=CaptionEncoder(model) if captions else None,
            buckets=bucket_sizes(side, size_multiple(model)) if buckets else None,
            crew=crew,
        )
    stores = made.stores
    data = {
        "set": set_folder,
        "cache": training_set.cache_folder,
        "base": model.name,
        "vision": clip.name,
        "resolution": side,
        "flip": flip,
        "latents": sum(len(store) for store in stores.latents),
        "buckets": {s.store.kind.split("_")[-1]: len(s) for s in stores.latents} if buckets else None,
        "image_embeds": len(stores.embeds or ()),
        "captions": len(stores.captions or ()),
        "shards": sum(len(store.store) for store in stores.all),
        "bytes": sum(store.size for store in stores.all),
    }
    told = f"{data['latents']} latents and {data['image_embeds']} CLIP features"
    if captions:
        told += f" and those of {data['captions']} captions"
    return Answer(data, [f"{told} are in {data['cache']}."])
