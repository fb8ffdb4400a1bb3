"""From an upright RGB picture to the pixels that the VAE sees."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image


def square(image: Image.Image, resolution: int) -> Image.Image:
    """Return the centre square of an RGB picture, resolution x resolution; what lies beyond is cut."""
    return covering(image, resolution, resolution)


def covering(image: Image.Image, width: int, height: int) -> Image.Image:
    """Return an RGB picture scaled to cover width x height, about its centre; what lies beyond is cut.

    The crop happens inside the resampling (Lanczos), so that no row is rounded away twice.
    """
    wide, high = image.size
    if wide * height >= high * width:  # the picture is wider
        box_width, box_height = high * width / height, float(high)
    else:
        box_width, box_height = float(wide), wide * height / width
    left, top = (wide - box_width) / 2, (high - box_height) / 2
    # Rounding must not put an edge beyond the picture, which Pillow refuses.
    box = (left, top, min(left + box_width, wide), min(top + box_height, high))
    return image.resize((width, height), Image.Resampling.LANCZOS, box=box)


def to_pixels(images: list[Image.Image]) -> torch.Tensor:
    """Stack RGB pictures of one size. Returns: [B, 3, H, W] float32 in -1..1, as the VAE expects."""
    array = np.stack([np.asarray(image, dtype=np.uint8) for image in images])
    return torch.from_numpy(array).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0).contiguous()
