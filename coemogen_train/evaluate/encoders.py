"""From networks to instruments: CLIP's features as arrays, and LPIPS on whatever network compares pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .instruments import Features, PictureTextEncoder

if TYPE_CHECKING:
    from .backbones import PictureEncoder


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
    least, most: the shorter side, in pixels, that a pair is brought up to or down to. AlexNet finds nothing
        in a thumbnail; and the distance, like the memory it takes, hangs on the size, so that photographs at
        their own could not be compared with what a model draws. most None: as large as they are.
    """

    compare: Callable[[Tensor, Tensor], Tensor]
    device: str = "cpu"
    unit_range: bool = False
    least: int = 64
    most: int | None = 512

    @torch.no_grad()
    def __call__(self, first: Sequence[Image.Image], second: Sequence[Image.Image]) -> Features:
        """[n], each pair at its own size where that is within bounds: in 64 pixels and in 512 the same two
        pictures differ otherwise.

        A pair of one size keeps its shape: its shorter side is brought to `least` or `most` where it lies
        outside. Pictures of different sizes are both brought to a square whose side is the smallest of
        theirs, within the same bounds.
        """
        found = np.zeros(len(first), dtype=np.float32)
        pairs = [self._same_size(a, b) for a, b in zip(first, second, strict=True)]
        for size in dict.fromkeys(a.size for a, _ in pairs):  # what is of one size goes together
            rows = [row for row, (a, _) in enumerate(pairs) if a.size == size]
            left, right = (self._pixels([pairs[row][side] for row in rows]) for side in (0, 1))
            found[rows] = self.compare(left, right).float().cpu().numpy()
        return found

    def _same_size(self, first: Image.Image, second: Image.Image) -> tuple[Image.Image, Image.Image]:
        short = min(*first.size, *second.size)
        side = max(short if self.most is None else min(short, self.most), self.least)
        if first.size != second.size:
            return square(first, side), square(second, side)
        if side == short:
            return first, second
        size = (round(first.width * side / short), round(first.height * side / short))
        return first.resize(size, Image.Resampling.BICUBIC), second.resize(size, Image.Resampling.BICUBIC)

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
