"""The story recogniser as the backbone of a second probe, as ResNet-50 is where there are real weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from ..base.load import toyworld_weights
from ..base.model import freeze, module_fingerprint
from ..evaluate.backbones import Backbone
from .recogniser import FEATURES, load_recogniser, picture_pixels

NAME = "toy recogniser"
_SIDE = 64


def toy_backbone(device: str = "cpu") -> Backbone:
    """The bundled recogniser; pictures of other sizes are squashed to the toy world's."""
    recogniser = load_recogniser(toyworld_weights() / "recogniser.safetensors")
    fingerprint = module_fingerprint(recogniser, {"side": _SIDE})
    freeze(recogniser, device, torch.float32)

    def embed(images: Sequence[Image.Image]) -> Tensor:
        sized = [image if image.size == (_SIDE, _SIDE) else image.resize((_SIDE, _SIDE)) for image in images]
        return recogniser.features(picture_pixels(sized).to(device))

    return Backbone(NAME, fingerprint, FEATURES, embed)
