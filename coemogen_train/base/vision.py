"""CLIP as the trainer's eye: image embeddings v, and the similarity of a picture and its caption.

Loaders for the forms in which people have CLIP stand in `clip_files`; this file is what they all become.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from ..errors import UserError
from .model import module_fingerprint

# OpenAI CLIP's, which a file without a configuration of its own is taken to use.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ImageTransform:
    """From a picture to the pixels that CLIP reads: RGB, resized, cropped at the centre, normalised.

    Attributes:
        shortest_edge: the shorter side after resizing, the longer in proportion; None: `size` is used.
        size: (height, width) to which the picture is squashed, where `shortest_edge` is None; None: as it is.
        crop: (height, width) of the centre crop; None: none. What lies outside the picture is black.
        resample: Pillow's number of the filter; 3 is bicubic.
        mean, std: per channel, of values in 0..1.
        crop_rounding: where the crop begins if the middle falls between two pixels: "down" as in
            transformers, "nearest" (even) as in torchvision and so in open_clip.
    """

    shortest_edge: int | None = 224
    size: tuple[int, int] | None = None
    crop: tuple[int, int] | None = (224, 224)
    resample: int = 3
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    crop_rounding: Literal["down", "nearest"] = "down"

    def __call__(self, image: Image.Image) -> Tensor:
        """Pixels [3, H, W], float32. Pillow resizes, so that all versions of the libraries agree."""
        image = image.convert("RGB")
        target = self._target(image.width, image.height)
        if target != image.size:
            image = image.resize(target, Image.Resampling(self.resample))
        if self.crop is not None:
            height, width = self.crop
            left, top = self._crop_start(image.width, width), self._crop_start(image.height, height)
            image = image.crop((left, top, left + width, top + height))
        data = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        pixels = data.view(image.height, image.width, 3).permute(2, 0, 1).float() / 255
        mean, std = torch.tensor(self.mean).view(3, 1, 1), torch.tensor(self.std).view(3, 1, 1)
        return ((pixels - mean) / std).contiguous()

    def _target(self, width: int, height: int) -> tuple[int, int]:
        if self.shortest_edge is not None:
            short, long = min(width, height), max(width, height)
            stretched = int(
                self.shortest_edge * long / short
            )  # truncated, as transformers and torchvision do
            return (self.shortest_edge, stretched) if width <= height else (stretched, self.shortest_edge)
        return (self.size[1], self.size[0]) if self.size is not None else (width, height)

    def _crop_start(self, length: int, crop: int) -> int:
        if self.crop_rounding == "nearest" and length >= crop:
            return round((length - crop) / 2)
        return (length - crop) // 2


@dataclass
class ClipEncoder:
    """A frozen CLIP: pictures, and where it has a text tower sentences, to projected embeddings.

    Attributes:
        name: what the user called it, without folders.
        image_width: V, the width of an image embedding.
        text_width: width of a text embedding; None where there is no text tower.
        transform: picture -> pixels [3, H, W].
        embed_pixels: pixels [B, 3, H, W] -> unnormalised projected embeddings [B, V].
        embed_texts: sentences -> unnormalised projected embeddings [B, V].
        pair_fingerprint: of both halves, where `fingerprint` is of the image half alone; else None.
    """

    name: str
    model: nn.Module = field(repr=False)
    image_width: int
    text_width: int | None
    transform: ImageTransform
    embed_pixels: Callable[[Tensor], Tensor] = field(repr=False)
    embed_texts: Callable[[list[str]], Tensor] | None = field(repr=False)
    pair_fingerprint: str | None = field(default=None, repr=False)
    _fingerprint: str | None = field(default=None, repr=False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return next(self.model.parameters()).dtype

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights as loaded and of the transform: part of a feature cache's key."""
        if self._fingerprint is None:
            self._fingerprint = module_fingerprint(self.model, {"transform": repr(self.transform)})
        return self._fingerprint

    @torch.no_grad()
    def encode_images(self, images: Sequence[Image.Image], batch_size: int = 64) -> Tensor:
        """Image embeddings [n, V], float32 on the CPU, unnormalised.

        Batches are consecutive runs of `batch_size` pictures. The last bits of an embedding depend on the
        make-up of its batch: who needs equal bytes gives equal batches.
        """
        rows = []
        for start in range(0, len(images), batch_size):
            pixels = torch.stack([self.transform(image) for image in images[start : start + batch_size]])
            rows.append(self.embed_pixels(pixels.to(self.device, self.dtype)).float().cpu())
        return torch.cat(rows) if rows else torch.empty(0, self.image_width)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str], batch_size: int = 64) -> Tensor:
        """Text embeddings [n, P], float32 on the CPU, unnormalised; long texts are cut at CLIP's length.

        Raises:
            UserError: this CLIP has no text tower.
        """
        if self.embed_texts is None or self.text_width is None:
            raise UserError(
                f"{self.name}: this is CLIP's image half only, and captions have to be compared with "
                "pictures: give the text half beside it, or a CLIP with both, as a folder from Hugging Face "
                "or an open_clip name such as ViT-L-14."
            )
        rows = [
            self.embed_texts(list(texts[start : start + batch_size])).float().cpu()
            for start in range(0, len(texts), batch_size)
        ]
        return torch.cat(rows) if rows else torch.empty(0, self.text_width)


def load_vision(
    spec: str | Any,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    text: str | None = None,
) -> ClipEncoder:
    """Load a CLIP, frozen.

    Args:
        spec: "toy"; a folder in transformers' layout (CLIPModel); a `clip_vision` file as ComfyUI uses it
            (.safetensors, images only, read with no network); an open_clip name, alone ("ViT-L-14", its
            first published weights), with weights by name ("ViT-L-14:openai") or from a file
            ("ViT-L-14:/models/vit_l.safetensors"); or a Hugging Face id, "owner/name".
        text: beside a `clip_vision` file, the text half in a file of ComfyUI's `text_encoders` folder, with
            its projection.

    Raises:
        UserError: nothing is there, or it is no CLIP.
    """
    if text is not None:
        from .clip_pair import load_pair

        return load_pair(str(spec), text, device, dtype)
    from .clip_files import load_clip

    return load_clip(str(spec), device, dtype)
