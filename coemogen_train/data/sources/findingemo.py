"""FindingEmo: annotations_single.ann, a CSV with a row per picture; valence is -3..3 and arousal 0..6."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from ...errors import DataError
from .files import files_in, readable
from .places import OUTSIDE, Places
from .record import Record, Source, SourceContext, clean_text
from .rows import csv_header, read_csv
from .walk import folder_of, of_list

_COLUMNS = frozenset({"image_path", "reject", "valence", "arousal", "emotion"})
_ATTRIBUTES = ("valence", "arousal", "age", "tag", "dec_factors", "ambiguity", "user")


def detects(path: Path) -> bool:
    """A .ann or .csv file with FindingEmo's columns, or a folder with one."""
    return _table(path) is not None


@readable
def records(source: Path, context: SourceContext) -> Iterator[Record]:
    """Yield a record per row; rows whose `reject` is not Keep are problems, as their annotators wanted."""
    table = _table(source)
    if table is None:
        raise DataError(f"{source} holds no annotations of FindingEmo (.ann): give the folder that has them.")
    yield from of_list(_listed(table), table, source, context)


def _listed(table: Path) -> Iterator[Record]:
    """Yield what the list itself says."""
    places = Places(table.parent)
    for number, cells in read_csv(table, None):
        where = f"{table.name}, row {number}"
        if isinstance(cells, str):
            yield Record(where, None, problem=("bad_row", cells))
        else:
            yield _record(where, {str(n).strip().casefold(): str(c) for n, c in cells.items()}, places)


def _record(where: str, cells: Mapping[str, str], places: Places) -> Record:
    # Their paths begin with a slash that means the folder of the pictures.
    written = cells["image_path"].strip().replace("\\", "/").lstrip("/")
    if not written:
        return Record(where, None, problem=("bad_row", "it names no image"))
    path, inside = places.find(written, f"images/{written}")
    verdict = clean_text(cells["reject"])
    problem = None if inside else OUTSIDE
    if inside and verdict.casefold() != "keep":
        problem = ("rejected", f"it is marked {verdict!r}")
    attributes = {name: text for name in _ATTRIBUTES if (text := clean_text(cells.get(name, "")))}
    return Record(written, path, emotion=cells["emotion"], attributes=attributes, problem=problem)


def _table(path: Path) -> Path | None:
    tables = files_in(path, (".ann",)) + files_in(path, (".csv",)) if os.path.isdir(path) else [path]
    named = (table for table in tables if table.suffix.lower() in (".ann", ".csv"))
    return next((table for table in named if csv_header(table) >= _COLUMNS), None)


FINDINGEMO = Source(name="findingemo", detects=detects, root=folder_of, records=records, taxonomy="plutchik")
