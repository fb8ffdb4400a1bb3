"""Files that are whole or absent: atomic writes, content hashes, canonical JSON. Standard library only.

"Nothing is ever half-written under its final name" rests on this module: everything is first written to a
part file in the same folder (a rename across folders may be a copy), flushed to the disk, then renamed over
the target.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PART_PREFIX = ".part-"
# Of lists, tables and commas: each may be a value, and the smallest takes thirty times its text in memory.
_MAX_MARKS = 1 << 16
_CHUNK = 1 << 20
# On Windows a virus scanner or an indexer may hold a fresh file open for a moment; the rename then fails.
_REPLACE_WAITS = (0.05, 0.1, 0.2, 0.4, 0.8)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a part file's path beside `path`; when the block ends without an error it becomes `path`.

    path: the final name. Missing parent folders are made.
    Yields: a path in the same folder with the same suffix, at which nothing exists yet; the block creates it.
    Raises: whatever the block raises, after removing the part file; FileNotFoundError if the block wrote
    nothing. A killed process leaves its part file behind: `sweep_parts` removes those.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    # The name is short and fresh: a long final name plus an addition could pass the limit of 255 bytes.
    part = final.parent / f"{PART_PREFIX}{secrets.token_hex(8)}{final.suffix}"
    try:
        yield part
        _flush_file(part)
        _replace(part, final)
        _flush_folder(final.parent)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(part)):
            error.filename = str(final)  # which people know
        raise
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def atomic_write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees the old content or the new, never a part of it."""
    with atomic_path(path) as part:
        part.write_bytes(data)


def atomic_write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8 with line ends as they are (equal text is equal bytes on every system)."""
    atomic_write_bytes(path, text.encode("utf-8"))


def append_text(path: str | Path, text: str) -> None:
    """Add whole lines to the end of a file as UTF-8; what the disk refuses in the middle is taken back.

    Raises: OSError with the file's name; the file is then as it was.
    """
    file = Path(path)
    with file.open("ab", buffering=0) as stream:
        before = stream.seek(0, os.SEEK_END)
        data = memoryview(text.encode("utf-8"))
        try:
            while data:  # a disk that is nearly full takes a part, and refuses the rest when asked again
                data = data[stream.write(data) :]
        except OSError as error:
            with suppress(OSError):
                stream.truncate(before)
            error.filename = str(file)
            raise


def sweep_parts(folder: str | Path) -> int:
    """Remove part files that killed writers left in `folder` (not below it) and return how many there were.

    To be called only by the folder's one writer, before it starts: the part file of a live writer would go
    too.
    """
    swept = 0
    for part in Path(folder).glob(f"{PART_PREFIX}*"):
        with suppress(OSError):
            part.unlink()
            swept += 1
    return swept


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 lower-case hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def canonical_json(value: object) -> str:
    """Return the one JSON text of `value`: sorted keys, no spaces, characters as they are, no NaN or
    infinity.

    Raises: ValueError for NaN and infinities, TypeError for what JSON cannot hold.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def is_crowded(text: str | bytes) -> bool:
    """Whether JSON text may hold more values (65,536) than what we read; ask before it is parsed."""
    marks = (text.count(mark) for mark in "{[,") if isinstance(text, str) else map(text.count, b"{[,")
    return sum(marks) > _MAX_MARKS


def _flush_file(path: Path) -> None:
    # Opened for writing because Windows flushes only writable handles.
    with path.open("r+b") as stream:
        os.fsync(stream.fileno())


def _flush_folder(folder: Path) -> None:
    """Make the rename survive a power cut, where the system allows opening a folder (not on Windows)."""
    if os.name == "nt":
        return
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _replace(part: Path, final: Path) -> None:
    for wait in _REPLACE_WAITS:
        try:
            os.replace(part, final)
            return
        except PermissionError:
            if os.name != "nt":
                raise
            time.sleep(wait)
    os.replace(part, final)
