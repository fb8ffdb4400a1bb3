"""Aspect-ratio buckets: sizes of one area and many shapes, so that little of a picture is cut away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .rows import Sample, SampleRows

Size = tuple[int, int]
"""Width and height in pixels."""

STEEPEST = 2
"""No bucket is more than so many times as long as it is wide."""


def bucket_sizes(resolution: int, multiple: int) -> tuple[Size, ...]:
    """List the sizes in which pictures are trained on, by rising width; the square is one of them.

    resolution: side of the square, in pixels. multiple: of which all sides are: what the U-Net halves evenly,
        64 in Stable Diffusion 1.5 (see `size_multiple`).
    A size has at most the area of the square, is between 1:2 and 2:1, and could be no step of `multiple`
    wider or higher within these bounds. At 512: 384x640, 448x576, 512x512, 576x448, 640x384.
    Raises: DataError when the resolution is no multiple.
    """
    if resolution < multiple or resolution % multiple:
        raise DataError(f"the resolution {resolution} is not a multiple of {multiple}: choose one that is.")
    most = (resolution // multiple) ** 2

    def fits(width: int, height: int) -> bool:
        return width * height <= most and width <= STEEPEST * height and height <= STEEPEST * width

    sides = range(1, STEEPEST * resolution // multiple + 1)
    return tuple(
        (width * multiple, height * multiple)
        for width in sides
        for height in sides
        if fits(width, height) and not fits(width + 1, height) and not fits(width, height + 1)
    )


def size_multiple(base: Any) -> int:
    """What a side in pixels must be a multiple of, so that a base model's U-Net halves it evenly."""
    return int(base.vae_factor) * 2 ** (len(base.unet.config.block_out_channels) - 1)


def bucket_of(samples: Sequence[Sample], sizes: Sequence[Size]) -> NDArray[np.int64]:
    """Give the number of each sample's bucket, [n]: the one of the nearest aspect ratio.

    Of a picture and a bucket that is the ratio of their aspect ratios, whichever is larger above; of two
    buckets as near, the narrower.
    """
    if isinstance(samples, SampleRows):
        table = samples.columns("width", "height")
        width, height = (table[name].to_numpy().astype(np.float64) for name in ("width", "height"))
    else:
        pairs = np.array([(sample.width, sample.height) for sample in samples], dtype=np.float64)
        width, height = pairs.reshape(-1, 2).T
    nearest, found = np.full(len(width), np.inf), np.zeros(len(width), dtype=np.int64)
    for number, (wide, high) in enumerate(sizes):  # by rising width, and only the nearer wins
        wider = (width * high) / (height * wide)  # products of whole numbers: exact in float64
        distance = np.maximum(wider, (height * wide) / (width * high))
        nearer = distance < nearest
        nearest[nearer], found[nearer] = distance[nearer], number
    return found
