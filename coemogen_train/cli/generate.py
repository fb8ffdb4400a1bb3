"""`generate`: pictures from an adapter, without ComfyUI."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..emotions import Taxonomy, parse_mixture
from .answer import Answer
from .options import Base, ClipSkip, Device, Json, PredictionType, pick_device
from .progress import progress_bar

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)


class Branches(str, Enum):
    """Where in the guidance HiLoRA acts."""

    both = "both"
    conditional = "conditional"


class Precision(str, Enum):
    """How the base model's weights are kept."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


def generate(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="An adapter file.", show_default=False)],
    base: Base,
    emotion: Annotated[str, typer.Option(help='A name, "awe 0.7 + fear 0.3", rows by ";", or all.')],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the pictures.", show_default=False)],
    count: Annotated[int, typer.Option(min=1, help="Pictures per emotion or mixture.")] = 1,
    seed: Annotated[int, typer.Option(min=0, max=2**48, help="Picture i has seed + i.")] = 0,
    prompt: Annotated[str, typer.Option(help="Text; {emotion} is the place of the emotion.")] = "{emotion}",
    negative_prompt: Annotated[str, typer.Option(help="What guidance leads away from.")] = "",
    intensity: Annotated[float, typer.Option(help="0 is the plain prompt, 1 is as trained.")] = 1.0,
    truncation: Annotated[float, typer.Option(min=0, help="Variety; 0 is the emotion's mean.")] = 1.0,
    emotion_strength: Annotated[float, typer.Option(help="Of the emotions' HiLoRA.")] = 1.0,
    polarity_strength: Annotated[float, typer.Option(help="Of the polarities' HiLoRA.")] = 1.0,
    guidance: Annotated[float | None, typer.Option(min=0, help="The adapter's own unless given.")] = None,
    hilora_branches: Annotated[Branches | None, typer.Option(help="The adapter's own unless given.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = 50,
    scheduler: Annotated[str, typer.Option(help="ddim, euler, ..., or a class name of diffusers.")] = "ddim",
    size: Annotated[
        int | None, typer.Option(min=8, help="Side in pixels; the base's own unless given.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 8,
    clip_skip: ClipSkip = None,
    prediction_type: PredictionType = None,
    precision: Annotated[Precision, typer.Option(help="Of the base model's weights.")] = Precision.fp32,
    device: Device = "auto",
    as_json: Json = False,
) -> Answer:
    """Draw pictures that evoke an emotion. One seed gives one picture, in whatever company it is drawn.

    Where neither you nor the base's files tell its clip skip and prediction type, they are those of the base
    that the adapter was trained on.

    \b
    Example: coemogen_train generate adapter.safetensors --base sd15.safetensors --emotion awe --out awe
    """
    import torch

    from ..adapter.file import load_adapter
    from ..base.generate import check_fits, generate_from_adapter, setting_warnings, trained_settings
    from ..base.load import load_base
    from ..base.sampling import SamplingSettings

    loaded = load_adapter(adapter)
    taxonomy, advised = loaded.info.taxonomy, loaded.info.guidance
    rows = [row for row in parse_mixture(emotion, taxonomy) for _ in range(count)]
    settings = SamplingSettings(
        steps=steps,
        guidance=advised.scale if guidance is None else guidance,
        scheduler=scheduler,
        hilora_branches=Branches(hilora_branches or advised.hilora_branches).value,
        batch_size=batch_size,
        height=size,
        width=size,
    )
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision.value]
    model = load_base(
        base,
        pick_device(device),
        dtype,
        clip_skip=clip_skip,
        prediction_type=prediction_type.value if prediction_type else None,
        fallback=trained_settings(loaded),
    )
    check_fits(model, loaded, adapter)
    warnings = setting_warnings(model, loaded)
    for warning in warnings:
        logger.warning(warning)
    with progress_bar() as progress:
        images = generate_from_adapter(
            model,
            loaded,
            torch.tensor(rows, dtype=torch.float32),
            seed,
            settings,
            prompt=prompt,
            intensity=intensity,
            truncation=truncation,
            emotion_strength=emotion_strength,
            polarity_strength=polarity_strength,
            negative_prompt=negative_prompt,
            progress=lambda done, total: progress("drawing", done, total),
        )
    pictures = [
        {"image": out / f"{_name(row, taxonomy)}_{own}.png", "emotion": _weights(row, taxonomy), "seed": own}
        for own, row in enumerate(rows, start=seed)
    ]
    for picture, image in zip(pictures, images, strict=True):
        _save(image, Path(str(picture["image"])))
    data = {
        "adapter": adapter,
        "base": model.name,
        "clip_skip": model.clip_skip,
        "prediction_type": model.prediction_type,
        "guidance": settings.guidance,
        "pictures": pictures,
        "warnings": warnings,
    }
    return Answer(data, [str(picture["image"]) for picture in pictures])


def _weights(row: Sequence[float], taxonomy: Taxonomy) -> dict[str, float]:
    """The emotions in a row of weights, by name."""
    return {name: weight for name, weight in zip(taxonomy.names, row, strict=True) if weight}


def _name(row: Sequence[float], taxonomy: Taxonomy) -> str:
    """A row of weights as a part of a file name: awe, or awe-0.7_fear-0.3."""
    weights = _weights(row, taxonomy)
    words = [name if weight == 1 else f"{name}-{weight:g}" for name, weight in weights.items()]
    return "_".join("".join(c if c.isalnum() or c in ".-" else "-" for c in word) for word in words) or "none"


def _save(image: Image.Image, path: Path) -> None:
    from ..files import atomic_path

    with atomic_path(path) as part:
        image.save(part, "PNG")
