"""Options that several commands share, each spelt once."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

# Read by `program.run`, which prints a command's answer.
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, logs elsewhere.")]
SetFolder = Annotated[Path, typer.Argument(metavar="SET", help="A set made by prepare.", show_default=False)]
Base = Annotated[
    str, typer.Option(help="Base model: diffusers folder, Hugging Face id, .safetensors checkpoint, or toy.")
]
_VISION = typer.Option(help="CLIP: folder, Hugging Face id, open_clip name, clip_vision file, or toy.")
Vision = Annotated[str, _VISION]
OptionalVision = Annotated[str | None, _VISION]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps; auto takes the first that is there.")]


class Encoders(str, Enum):
    """Who looks at the pictures that are measured."""

    paper = "paper"
    toy = "toy"


class Prediction(str, Enum):
    """What a U-Net predicts."""

    epsilon = "epsilon"
    v_prediction = "v_prediction"
    sample = "sample"


ClipSkip = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Text encoder layer that is read: 1 the last, 2 the one before; the base's own unless given.",
    ),
]
PredictionType = Annotated[
    Prediction | None, typer.Option(help="What the base's U-Net predicts; the base's own unless given.")
]


def pick_device(name: str) -> str:
    """The device to compute on. Of several processes on one machine, auto gives each the GPU of its number.

    Raises: UserError when this machine does not have it.
    """
    import torch

    from ..errors import UserError

    if name == "auto":
        if torch.cuda.is_available():
            number = os.environ.get("LOCAL_RANK", "")
            return f"cuda:{int(number) % torch.cuda.device_count()}" if number.isdecimal() else "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(
            f"--device {name}: this machine cannot compute there ({reason}): try --device cpu."
        ) from None
    return name
