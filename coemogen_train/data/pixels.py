"""From an upright RGB picture to the square of pixels that the VAE sees."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image


def square(image: Image.Image, resolution: int) -> Image.Image:
    """Return the centre square of an RGB picture, resolution x resolution; what lies beyond is cut.

    The crop happens inside the resampling (Lanczos), so that no row is rounded away twice.
    """
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((resolution, resolution), Image.Resampling.LANCZOS, box=box)


def to_pixels(images: list[Image.Image]) -> torch.Tensor:
    """Stack RGB pictures of one size. Returns: [B, 3, H, W] float32 in -1..1, as the VAE expects."""
    array = np.stack([np.asarray(image, dtype=np.uint8) for image in images])
    return torch.from_numpy(array).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0).contiguous()
