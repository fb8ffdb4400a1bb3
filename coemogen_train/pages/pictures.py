"""Pictures for a page, written anew: a page passes on no byte of anybody's file."""

from __future__ import annotations

import io

from PIL import Image


def thumbnail(image: Image.Image, side: int, quality: int = 82) -> bytes:
    """A JPEG of an RGB picture, its longer side at most `side` pixels, without anything but the pixels.

    The same picture gives the same bytes, with the same Pillow.
    """
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    small.info = {}  # comments and the like would be written out again
    out = io.BytesIO()
    small.save(out, "JPEG", quality=quality)
    return out.getvalue()
