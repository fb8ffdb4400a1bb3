"""From the bytes of a picture file to upright RGB.

A picture from anywhere may be empty, cut short, gigantic, sideways, moving, printed in CMYK or sixteen bits
deep. Each is either turned into plain RGB here, or refused with an `ImageProblem` that says what is wrong.
"""

from __future__ import annotations

import hashlib
import io
import logging
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .formats import READABLE, SIGNED, has_suffix_of

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# The page that transparent pictures lie on in most viewers.
_WHITE = (255, 255, 255)


class ImageProblem(Exception):
    """A picture that cannot be used. kind: its class in the table of problems. detail: one clause of why."""

    def __init__(self, kind: str, detail: str):
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


@dataclass(frozen=True)
class ImageLimits:
    """What a picture may be: `min_side` and `max_pixels` in pixels of the decoded picture, `max_bytes` of the
    file.

    128 million pixels let the largest phone pictures in and decode to 400 MB; a bomb claims far more.
    """

    min_side: int = 16
    max_pixels: int = 1 << 27
    max_bytes: int = 1 << 29


@dataclass(frozen=True)
class CheckedImage:
    """What `check_image` learned. width, height: of the upright picture. sha256: of the file."""

    sha256: str
    width: int
    height: int
    format: str
    notes: tuple[str, ...]


def check_image(path: Path, limits: ImageLimits = ImageLimits()) -> CheckedImage:
    """Read and decode a picture whole, so that nothing later meets a broken one.

    Raises: ImageProblem of kind missing, not_a_file, unreadable, empty, too_large, undecodable, truncated,
    too_small.
    """
    return check_bytes(read_file(path, limits), path, limits)


def check_bytes(data: bytes, path: object, limits: ImageLimits = ImageLimits()) -> CheckedImage:
    """As `check_image`, of bytes that were read already. path: where they stood, if that was a `Path`: then
    its ending is looked at."""
    image, name, notes = decode_rgb(data, limits)
    if isinstance(path, Path) and not has_suffix_of(path, name):
        notes = (*notes, "wrong_suffix")
    return CheckedImage(hashlib.sha256(data).hexdigest(), image.width, image.height, name, notes)


def load_rgb(path: Path, sha256: str | None = None, limits: ImageLimits = ImageLimits()) -> Image.Image:
    """Return a picture upright and in RGB; with `sha256`, only if its bytes are still those.

    Raises: ImageProblem as `check_image`, and of kind "changed".
    """
    data = read_file(path, limits)
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise ImageProblem("changed", "its content is no longer what it was when the set was prepared")
    return decode_rgb(data, limits)[0]


def read_file(path: Path, limits: ImageLimits) -> bytes:
    """Return a file's bytes. Raises: ImageProblem (missing, not_a_file, unreadable, empty, too_large)."""
    try:
        status = path.stat()
        # A named pipe or a device would make the reader wait for ever.
        if not stat.S_ISREG(status.st_mode):
            raise ImageProblem("not_a_file", "it is a folder or a device")
        if status.st_size == 0:
            raise ImageProblem("empty", "it has no bytes")
        if status.st_size > limits.max_bytes:
            raise ImageProblem("too_large", f"it has {status.st_size} bytes, more than {limits.max_bytes}")
        return path.read_bytes()
    except FileNotFoundError:
        raise ImageProblem("missing", "there is no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise ImageProblem("unreadable", getattr(error, "strerror", None) or str(error)) from None


def decode_rgb(data: bytes, limits: ImageLimits) -> tuple[Image.Image, str, tuple[str, ...]]:
    """Decode a picture's bytes.

    Returns: the upright RGB picture, its format (one of READABLE, MPO counted as JPEG), and notes on what was
    done:
        animated (first frame taken), exif_rotated, transparent (laid over white), cmyk, deep_grey (scaled to
        8 bits).
    Raises: ImageProblem (undecodable, truncated, too_large, too_small).
    """
    try:
        with Image.open(io.BytesIO(data), formats=_known_formats()) as image:
            _check_size(image, limits)
            name = "JPEG" if image.format == "MPO" else str(image.format)
            notes = []
            if name != "JPEG" and getattr(image, "is_animated", False):
                notes.append("animated")
            image.load()
            turn = _UPRIGHT.get(_orientation(image))
            rgb, note = to_rgb(image)
    except ImageProblem:
        raise
    except Image.DecompressionBombError:
        raise ImageProblem("too_large", f"it claims more than {limits.max_pixels} pixels") from None
    except Image.UnidentifiedImageError:
        raise ImageProblem("undecodable", "it is not a picture in a format that can be read") from None
    except MemoryError:
        raise ImageProblem("too_large", "there is not enough memory to decode it") from None
    except Exception as error:
        # On hostile bytes Pillow's parsers raise anything, from struct.error to KeyError.
        kind = "truncated" if "truncated" in str(error).lower() else "undecodable"
        raise ImageProblem(kind, f"{type(error).__name__}: {error}") from None
    if note:
        notes.append(note)
    if turn is not None:
        rgb = rgb.transpose(turn)
        notes.append("exif_rotated")
    return rgb, name, tuple(notes)


def looks_like_image(path: Path) -> bool:
    """Say whether a file without a picture's ending begins like a picture; pipes and the like do not."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as stream, Image.open(stream, formats=SIGNED):
            return True
    except Exception:  # as in decode_rgb: hostile bytes raise anything
        return False


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silence Pillow's warnings on large and odd files: we have limits of our own and report what matters.

    To be entered by the main thread around a loop of decoding threads (the warning filters are the process's
    own).
    """
    pillow = logging.getLogger("PIL")
    level = pillow.level
    pillow.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    finally:
        pillow.setLevel(level)


def to_rgb(image: Image.Image) -> tuple[Image.Image, str | None]:
    """Turn any of Pillow's modes into RGB, transparency over white.

    Returns: the picture, and the note of what was done (transparent, cmyk, deep_grey), None for ordinary
    modes.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image.copy(), None
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layers = image.convert("RGBA")
        if layers.getchannel("A").getextrema() == (255, 255):
            return layers.convert("RGB"), None
        page = Image.new("RGB", image.size, _WHITE)
        page.paste(layers, mask=layers.getchannel("A"))
        return page, "transparent"
    if image.mode.startswith(("I", "F")):
        return _shallow(image).convert("RGB"), "deep_grey"
    return image.convert("RGB"), "cmyk" if image.mode == "CMYK" else None


def _known_formats() -> list[str]:
    Image.init()
    # AVIF came to Pillow with 11.3.
    return [name for name in READABLE if name in Image.OPEN]


def _check_size(image: Image.Image, limits: ImageLimits) -> None:
    width, height = image.size
    if width * height > limits.max_pixels:
        raise ImageProblem("too_large", f"it has {width} x {height} pixels, more than {limits.max_pixels}")
    if min(width, height) < limits.min_side:
        raise ImageProblem(
            "too_small", f"it has {width} x {height} pixels; the shorter side needs {limits.min_side}"
        )


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # a broken EXIF block says nothing of the picture, which is decoded by now
        return 1


def _shallow(image: Image.Image) -> Image.Image:
    """Scale grey of 16 or 32 bits, or of floats, to 8 bits; the range is guessed from the values."""
    values = np.asarray(image)
    if image.mode != "F":
        # 65535 is white; 32-bit modes are how Pillow opens 16-bit files of some formats. 257 is odd: no ties.
        grey = (np.clip(values, 0, 65535).astype(np.uint32) + 128) // 257
        return Image.fromarray(grey.astype(np.uint8))
    values = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    largest = values.max(initial=0.0)
    if largest <= 1.0:
        values = values * 255.0
    elif largest > 255.0:
        values = values / 257.0
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
