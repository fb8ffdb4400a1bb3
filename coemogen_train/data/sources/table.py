"""A table with a row per picture: CSV, TSV, JSON lines or Parquet with image, emotion and, where there is
one, caption.

Columns beyond those are optional (id, split, scene, objects) or kept as attributes. A table may name pictures
anywhere: whoever wrote a path meant it, links included.
"""

from __future__ import annotations

import csv
import json
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import DataError
from .record import Record, Source, SourceContext, clean_text

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "image_path", "file", "file_name", "filename", "path"),
    "emotion": ("emotion", "label", "class"),
    "caption": ("caption", "text", "utterance", "sentence"),
    "split": ("split", "subset"),
    "id": ("id", "sample_id"),
    "scene": ("scene",),
    "objects": ("objects", "object"),
}
"""Our name of a column, and the names under which it is accepted, in any case; the first found wins."""

# Python's csv refuses cells above 128 KiB; a longer one is a quote that was never closed.
_CELL_LIMIT = 1 << 24

Row = tuple[int, "Mapping[str, Any] | str"]
"""The number of a row (1 is the first below the header), and its cells, or what is wrong with it."""


def detects(path: Path) -> bool:
    """A file with one of SUFFIXES, or a folder with one such table called metadata or samples."""
    return path.suffix.lower() in SUFFIXES if path.is_file() else _table_in(path) is not None


def root(source: Path) -> Path:
    """The table's folder."""
    return source.parent if source.is_file() else source


def records(source: Path, context: SourceContext) -> Iterator[Record]:
    """Yield a record per row, in the table's order.

    Raises: DataError when the file cannot be read as a table, or has no column for image or emotion.
    """
    table = source if source.is_file() else _table_in(source)
    if table is None:
        raise DataError(f"{source} holds no table called metadata or samples (.csv, .tsv, .jsonl, .parquet).")
    columns: dict[str, str] = {}
    for number, cells in _read(table):
        if isinstance(cells, str):
            yield Record(f"{table.name}, row {number}", None, problem=("bad_row", cells))
            continue
        names = {str(name).strip().casefold(): name for name in cells if name is not None}
        columns = {
            ours: names[c] for ours, accepted in _COLUMNS.items() for c in reversed(accepted) if c in names
        }
        yield _record(table, number, cells, columns)


def _record(table: Path, number: int, cells: Mapping[str, Any], columns: Mapping[str, str]) -> Record:
    where = f"{table.name}, row {number}"
    lacking = [name for name in ("image", "emotion") if name not in columns]
    if lacking:
        return Record(where, None, problem=("bad_row", f"it has no {' and no '.join(lacking)}"))
    values = {ours: _text(cells[name]) for ours, name in columns.items() if ours != "objects"}
    if values["image"] is None:
        return Record(where, None, problem=("bad_row", "it names no image"))
    # As written, line breaks too: a file may be called so.
    written = str(cells[columns["image"]]).strip()
    taken = set(columns.values())
    attributes = {
        clean_text(str(name)): text
        for name, cell in cells.items()
        if name not in taken
        and isinstance(cell, str | int | float | bool)
        and (text := _text(cell)) is not None
    }
    return Record(
        name=written,
        image=_find(table.parent, written),
        # As written, spaces too: they are trimmed and counted where labels are mapped.
        emotion=None if values["emotion"] is None else str(cells[columns["emotion"]]),
        caption=values.get("caption"),
        split=values.get("split"),
        id=values.get("id"),
        scene=values.get("scene"),
        objects=_objects(cells[columns["objects"]]) if "objects" in columns else (),
        attributes=attributes,
    )


def _find(folder: Path, written: str) -> Path:
    """The path that a cell means: as written, with backslashes turned, or in another Unicode composition."""
    spellings = [written, written.replace("\\", "/")]
    spellings += [unicodedata.normalize(form, text) for form in ("NFC", "NFD") for text in spellings[:2]]
    for spelling in dict.fromkeys(spellings):
        path = folder / spelling
        try:
            if path.exists():
                return path
        except (OSError, ValueError):  # longer than a name may be, or with a null character
            continue
    return folder / written


def _objects(cell: Any) -> tuple[str, ...]:
    """A list, or names with "|" between them."""
    parts: Iterable[Any] = cell if isinstance(cell, list | tuple) else str(cell or "").split("|")
    return tuple(text for part in parts if (text := _text(part)) is not None)


def _text(cell: Any) -> str | None:
    """A cell as text on one line, None for an empty one."""
    if cell is None or (isinstance(cell, float) and cell != cell):
        return None
    return clean_text(str(cell)) or None


def _table_in(folder: Path) -> Path | None:
    for stem in ("metadata", "samples"):
        for suffix in SUFFIXES:
            if (folder / f"{stem}{suffix}").is_file():
                return folder / f"{stem}{suffix}"
    return None


def _read(table: Path) -> Iterator[Row]:
    suffix = table.suffix.lower()
    if suffix == ".parquet":
        return _read_parquet(table)
    if suffix in (".jsonl", ".ndjson"):
        return _read_json_lines(table)
    if suffix in (".csv", ".tsv"):
        return _read_csv(table, "\t" if suffix == ".tsv" else None)
    raise DataError(f"{table} is not a table that can be read: save it as one of {', '.join(SUFFIXES)}.")


def _read_csv(table: Path, delimiter: str | None) -> Iterator[Row]:
    csv.field_size_limit(min(_CELL_LIMIT, sys.maxsize))
    try:
        # utf-8-sig: Excel begins its UTF-8 with a byte order mark. newline="": line breaks inside cells are
        # data.
        with table.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            rows = csv.reader(
                stream, delimiter=delimiter or (";" if first.count(";") > first.count(",") else ",")
            )
            header = next(rows, [])
            _require_columns(table, header)
            number = 0
            for cells in rows:
                if not any(cells):
                    continue
                number += 1
                if len(cells) != len(header):
                    yield number, f"it has {len(cells)} cells where the header has {len(header)}"
                else:
                    yield number, dict(zip(header, cells, strict=True))
    except UnicodeDecodeError:
        raise DataError(f"{table} is not UTF-8: save the table as UTF-8.") from None
    except csv.Error as error:
        raise DataError(
            f"{table} breaks off as CSV ({error}): look for a quote that is never closed."
        ) from None


def _read_json_lines(table: Path) -> Iterator[Row]:
    number = 0
    with table.open("rb") as stream:
        for line in stream:
            text = line.removeprefix(b"\xef\xbb\xbf").strip()
            if not text:
                continue
            number += 1
            try:
                value = json.loads(text.decode("utf-8"))
            except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
                yield number, f"it is not JSON ({type(error).__name__})"
                continue
            yield number, value if isinstance(value, dict) else "it is not a JSON object"


def _read_parquet(table: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(table) as file:
            _require_columns(table, file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=1024):
                for cells in batch.to_pylist():
                    number += 1
                    yield number, cells
    except pa.ArrowException as error:
        raise DataError(f"{table} is not a Parquet table ({str(error).splitlines()[0]}).") from None


def _require_columns(table: Path, header: Iterable[str]) -> None:
    """Raise DataError when a table as a whole has no column for image or emotion."""
    have = {name.strip().casefold() for name in header}
    for ours in ("image", "emotion"):
        if have.isdisjoint(_COLUMNS[ours]):
            raise DataError(f"{table} has no column {ours!r}: name one {', '.join(_COLUMNS[ours])}.")


TABLE = Source(name="table", detects=detects, root=root, records=records)
