"""Where a path that a data set wrote leads: to a file below its folder, or out of it."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

OUTSIDE = ("outside", "its path leads out of the source folder")


class Places:
    """Finds the files of one source folder by the paths that its lists write, and lets none lead out of it.

    Folders that are links directly in the source folder count as part of it: whoever keeps a data set on
    several disks puts them there.
    """

    def __init__(self, source: Path):
        self.source = source
        tops = [source]
        with suppress(OSError):  # not to be listed: then nothing in it is found either
            tops += [path for path in source.iterdir() if path.is_symlink() and os.path.isdir(path)]
        self._tops = tuple(top.resolve() for top in tops)
        self._source = str(source)
        self._is_inside = lru_cache(maxsize=1024)(self._is_inside_uncached)

    def find(self, *candidates: str) -> tuple[Path, bool]:
        """The first of the written paths at which something is, else the first; and whether it stays inside.

        Backslashes separate as well, and umlauts may be composed either way; each path is relative to the
        source folder.
        """
        for written in candidates:
            if escapes(written):
                return self.source / written, False
        for written in candidates:
            for spelling in spellings(written):
                path = os.path.join(self._source, spelling)
                try:
                    found = os.lstat(path)
                except (OSError, ValueError):  # not there, too long a name, or a null character in it
                    continue
                real = path if stat.S_ISLNK(found.st_mode) else os.path.dirname(path)
                return Path(path), self._is_inside(real)
        return self.source / candidates[0], True

    def _is_inside_uncached(self, path: str) -> bool:
        try:
            real = Path(path).resolve()
        except (OSError, RuntimeError):  # a link that leads to itself
            return False
        return any(real.is_relative_to(top) for top in self._tops)


def escapes(written: str) -> bool:
    """Whether a path is absolute, on any system, or climbs with ".."."""
    parts = written.replace("\\", "/").split("/")
    has_drive = len(parts[0]) > 1 and parts[0][1] == ":"
    return ".." in parts or has_drive or (not parts[0] and len(parts) > 1)


def spellings(written: str) -> Iterable[str]:
    """A path as written, with backslashes turned, and in the other Unicode compositions."""
    plain = [written, written.replace("\\", "/")]
    if not written.isascii():
        plain += [unicodedata.normalize(form, text) for form in ("NFC", "NFD") for text in plain[:2]]
    return dict.fromkeys(plain)


def read_small(path: Path, limit: int) -> bytes:
    """The bytes of a small file of text. Raises: OSError or ValueError when it is no file, or larger."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no file")
    if status.st_size > limit:
        raise ValueError(f"it has more than {limit} bytes")
    return path.read_bytes()
