"""Which picture formats are read, and the endings by which files are taken for pictures."""

from __future__ import annotations

from pathlib import Path

_SUFFIXES: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
    "PPM": (".ppm", ".pgm", ".pnm"),
    "TGA": (".tga",),
    "ICO": (".ico",),
}
"""Pillow's name of a format, and its endings, the usual one first."""

# A closed list, since EPS and the like would start other programs. MPO is how some phones write JPEG.
READABLE = (*_SUFFIXES, "MPO")
SIGNED = ("JPEG", "PNG", "WEBP", "GIF", "TIFF")
"""Formats that begin with a signature; TGA and ICO would claim almost any file."""

_UNREADABLE = frozenset(".heic .heif .svg .eps .psd .raw .dng .cr2 .nef .arw .jxl".split())  # noqa: SIM905
_KNOWN = frozenset(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)


def is_picture_name(path: Path) -> bool:
    """Say whether a name ends like a picture's; formats that cannot be decoded count, and are reported."""
    return path.suffix.lower() in _KNOWN | _UNREADABLE


def suffix_of(name: str) -> str:
    """Return the usual ending of a format in READABLE."""
    return _SUFFIXES["JPEG" if name == "MPO" else name][0]


def has_suffix_of(path: Path, name: str) -> bool:
    """Say whether a file is called as its format (one of READABLE) usually is."""
    return path.suffix.lower() in _SUFFIXES["JPEG" if name == "MPO" else name]
