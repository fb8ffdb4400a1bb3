"""From networks to instruments: CLIP's features as arrays, and LPIPS on whatever network compares pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .backbones import PictureEncoder
from .instruments import Features, PictureTextEncoder


@dataclass(frozen=True, eq=False)
class ClipFeatures:
    """An encoder's image features as arrays. Equal for one encoder, so that pictures are encoded once."""

    clip: PictureTextEncoder | PictureEncoder

    def __call__(self, pictures: Sequence[Image.Image]) -> Features:
        """n pictures -> [n, V] float32, unnormalised."""
        features: Features = self.clip.encode_images(pictures).numpy()
        return features

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClipFeatures) and other.clip is self.clip

    def __hash__(self) -> int:
        return id(self.clip)


@dataclass(frozen=True, eq=False)
class PerceptualDistance:
    """Distances of pairs of pictures.

    compare: pixels [B, 3, H, W] in -1..1, and others alike -> [B] distances; 0 for equal ones.
    unit_range: give it 0..1 instead, as the published scripts do by oversight.
    """

    compare: Callable[[Tensor, Tensor], Tensor]
    device: str = "cpu"
    unit_range: bool = False

    @torch.no_grad()
    def __call__(self, first: Sequence[Image.Image], second: Sequence[Image.Image]) -> Features:
        """[n], each pair at its own size: in 64 pixels and in 512 the same two pictures differ otherwise.

        Pictures of different sizes are both brought to a square whose side is the smallest of theirs.
        """
        found = np.zeros(len(first), dtype=np.float32)
        pairs = [_same_size(a, b) for a, b in zip(first, second, strict=True)]
        for size in dict.fromkeys(a.size for a, _ in pairs):  # what is of one size goes together
            rows = [row for row, (a, _) in enumerate(pairs) if a.size == size]
            left, right = (self._pixels([pairs[row][side] for row in rows]) for side in (0, 1))
            found[rows] = self.compare(left, right).float().cpu().numpy()
        return found

    def _pixels(self, pictures: Sequence[Image.Image]) -> Tensor:
        arrays = np.stack([np.asarray(picture.convert("RGB"), dtype=np.float32) for picture in pictures])
        pixels = torch.from_numpy(arrays).permute(0, 3, 1, 2).contiguous().to(self.device) / 255
        return pixels if self.unit_range else pixels * 2 - 1


def square(
    picture: Image.Image, side: int, resample: Image.Resampling = Image.Resampling.BICUBIC
) -> Image.Image:
    """The middle of a picture, its shorter side resized to `side`; filtered, so that nothing aliases."""
    if picture.size == (side, side):
        return picture
    short = min(picture.size)
    left, top = (picture.width - short) / 2, (picture.height - short) / 2
    return picture.resize((side, side), resample, box=(left, top, left + short, top + short))


def _same_size(first: Image.Image, second: Image.Image) -> tuple[Image.Image, Image.Image]:
    if first.size == second.size:
        return first, second
    side = min(*first.size, *second.size)
    return square(first, side), square(second, side)
