"""The formats that `prepare` reads, a module each; a new one is a `Source` and a line in `SOURCES`."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import DataError
from ..samples import SET_FILE
from .artemis import ARTEMIS
from .emoart import EMOART
from .emoset import EMOSET
from .emotion6 import EMOTION6
from .files import refusal
from .findingemo import FINDINGEMO
from .folder import FOLDER, PICTURES
from .hub import fetch_hub_set
from .parquet import PARQUET
from .record import Record, Source, SourceContext
from .table import TABLE
from .webdataset import WEBDATASET

SOURCES: tuple[Source, ...] = (
    EMOSET,
    EMOART,
    ARTEMIS,
    EMOTION6,
    FINDINGEMO,
    PARQUET,
    WEBDATASET,
    TABLE,
    FOLDER,
    PICTURES,
)
"""In the order in which they are asked whether a path is theirs: those that ask for most first."""

__all__ = [
    "FOLDER",
    "SOURCES",
    "TABLE",
    "Record",
    "Source",
    "SourceContext",
    "detect_source",
    "fetch_hub_set",
]


def detect_source(path: Path, kind: str | None = None) -> Source:
    """Return the format of `path`, recognised by itself or named by `kind`.

    Raises: DataError when nothing is there, `kind` is unknown, or nothing recognises it.
    """
    if not os.path.lexists(path):
        raise DataError(
            f"{path} does not exist: give a folder with one subfolder per emotion, or a table of images."
        )
    if os.path.isfile(path / SET_FILE):
        raise DataError(
            f"{path} is a training set already: give the folder or table that it should be made from."
        )
    names = {source.name: source for source in SOURCES}
    if kind is not None:
        if kind not in names:
            raise DataError(f"there is no source format {kind!r}: choose one of {', '.join(names)}.")
        return names[kind]
    try:
        if os.path.isdir(path):
            os.scandir(path).close()
        for source in SOURCES:
            if source.detects(path):
                return source
    except OSError as error:
        raise refusal(path, error) from None
    raise DataError(
        f"{path} is neither a folder of pictures nor a table or archive that can be read "
        "(.csv, .tsv, .jsonl, .json, .parquet, .tar)."
    )
