"""How the toy world's scenes may look: plain, as the base model knows them, or as coloured woodcuts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import DataError

Style = Literal["plain", "woodcut"]
STYLES: tuple[Style, ...] = get_args(Style)

PAPER, INK = np.array([238.0, 222.0, 188.0]), np.array([46.0, 30.0, 24.0])
TONES = (50, 100, 150, 200)
"""Brightnesses between the five tones of a print, from ink to paper."""
TINT = 0.35
"""Share of a scene's own colour that is printed over the tones."""
CONTOUR = 80
"""Difference of two neighbouring pixels, of 255, that is cut as a line."""


def woodcut(picture: Image.Image) -> Image.Image:
    """Print a picture in a few tones from ink to tinted paper, its contours cut as lines.

    A function of the picture alone, made for the supersampled canvas, before its light is set: what is where,
    and how bright a polarity's pictures are, stays.
    """
    pixels = np.asarray(picture, dtype=np.float64)
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    tone = np.digitize(grey, TONES) / len(TONES)
    tone = np.where(_contours(pixels), 0.0, tone)
    printed = INK + (PAPER - INK) * tone[..., None] + TINT * (pixels - grey[..., None])
    return Image.fromarray(printed.clip(0, 255).round().astype(np.uint8))


def _contours(pixels: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where a pixel differs clearly from the one above or left of it: [H, W]."""
    down = np.abs(np.diff(pixels, axis=0, prepend=pixels[:1])).max(axis=2)
    right = np.abs(np.diff(pixels, axis=1, prepend=pixels[:, :1])).max(axis=2)
    contours: NDArray[np.bool_] = np.maximum(down, right) > CONTOUR
    return contours


def printer(style: str) -> Callable[[Image.Image], Image.Image]:
    """What a style does to a finished scene on its canvas.

    Raises:
        DataError: there is no such style.
    """
    if style not in STYLES:
        raise DataError(f"there is no toy style {style!r}: choose one of {', '.join(map(str, STYLES))}.")
    return woodcut if style == "woodcut" else lambda picture: picture
