"""What guidance does to a picture's colours when it is too strong: saturation, and pixels at the end of the
scale.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLOURS = ("saturation", "clipped")
_ENDS = (1, 254)


def colours_of(pictures: Sequence[Image.Image]) -> dict[str, NDArray[np.float64]]:
    """Of n pictures, [n] each: `saturation`, the mean of HSV's, 0..1; `clipped`, the share of pixels with a
    channel within one step of 0 or 255.
    """
    saturation, clipped = [], []
    for picture in pictures:
        pixels = np.asarray(picture.convert("RGB"))
        saturation.append(np.asarray(picture.convert("HSV"), dtype=np.float64)[..., 1].mean() / 255)
        clipped.append(((pixels <= _ENDS[0]) | (pixels >= _ENDS[1])).any(axis=-1).mean())
    return {"saturation": np.array(saturation), "clipped": np.array(clipped)}
