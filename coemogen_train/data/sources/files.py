"""Looking at files and folders that may vanish, be forbidden, or be links to impossible names."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from ...errors import DataError
from .record import Record, SourceContext

Records = Callable[[Path, SourceContext], Iterator[Record]]


def files_in(folder: Path, endings: tuple[str, ...], depth: int = 0) -> list[Path]:
    """The files with one of `endings` in a folder and in those up to `depth` below it, by name.

    Hidden ones are left out, and folders that may not be listed; links are followed.
    """
    return sorted(_files_in(folder, endings, depth))


def _files_in(folder: Path, endings: tuple[str, ...], depth: int) -> Iterator[Path]:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = os.path.join(folder, entry.name)
            # os.path never raises where Path.is_dir does: for a link to a name that is too long, for example.
            if entry.name.lower().endswith(endings) and os.path.isfile(path):
                yield Path(path)
            elif depth and not _is_plain(entry) and os.path.isdir(path):
                yield from _files_in(Path(path), endings, depth - 1)


def _is_plain(entry: os.DirEntry[str]) -> bool:
    """Whether the listing itself says that it is a file: that spares a question for each picture."""
    try:
        return entry.is_file(follow_symlinks=False)
    except OSError:
        return False


def readable(records: Records) -> Records:
    """Make of a system's refusal to read a source one sentence. Raises: DataError."""

    @functools.wraps(records)
    def told(source: Path, context: SourceContext) -> Iterator[Record]:
        try:
            yield from records(source, context)
        except OSError as error:
            raise refusal(source, error) from None

    return told


def refusal(source: Path, error: OSError) -> DataError:
    """The sentence for a file or folder that the system does not let read."""
    where = error.filename if isinstance(error.filename, str) else source
    return DataError(f"{where} cannot be read ({error.strerror or error}): look at its permissions.")
