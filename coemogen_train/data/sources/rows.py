"""Tables as rows of named cells: CSV, TSV, JSON lines, a JSON list, Parquet; read as a stream."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...errors import DataError
from .arrow_cells import rows_of_batch, simple_columns, told
from .json_stream import iterate_json
from .quoting import QuotedRows
from .record import clean_text

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".json")

# Python's csv refuses cells above 128 KiB; a longer one is a quote that was never closed.
_CELL_LIMIT = 1 << 24
_HEADER_BYTES = 1 << 16
_BATCH = 1024

Row = tuple[int, "Mapping[str, Any] | str"]
"""The number of a row (1 is the first below the header), and its cells, or what is wrong with it."""

HeaderCheck = Callable[[Sequence[str]], None]
"""Raises DataError when a table as a whole lacks a column; called where a format has a header."""


def any_header(header: Sequence[str]) -> None:
    """Find no fault with a header."""


def read_rows(table: Path, check_header: HeaderCheck = any_header) -> Iterator[Row]:
    """Yield the rows of `table`, whose ending says the format; a row that cannot be read says why.

    Raises: DataError when the file as a whole is no such table.
    """
    suffix = table.suffix.lower()
    if suffix == ".parquet":
        return _read_parquet(table, check_header)
    if suffix in (".jsonl", ".ndjson"):
        return _read_json_lines(table)
    if suffix == ".json":
        return _read_json_list(table)
    if suffix == ".csv":
        return read_csv(table, None, check_header)
    if suffix == ".tsv":
        return read_csv(table, "\t", check_header)
    raise DataError(f"{table} is not a table that can be read: save it as one of {', '.join(SUFFIXES)}.")


def read_csv(table: Path, delimiter: str | None, check_header: HeaderCheck = any_header) -> Iterator[Row]:
    """Yield the rows of a CSV file; without `delimiter` it is "," or ";", whichever the header has more of.

    Where a quote that is never closed ate further rows up to the next quote, each of them is a row that
    cannot be read.
    Raises: DataError when it is not UTF-8, may not be read, or breaks off inside a quoted cell.
    """
    csv.field_size_limit(min(_CELL_LIMIT, sys.maxsize))
    try:
        # utf-8-sig: Excel begins its UTF-8 with a byte order mark. newline="": line breaks inside cells are
        # data.
        with table.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            yield from _csv_rows(table, stream, delimiter or _delimiter(first), check_header)
    except UnicodeDecodeError:
        raise DataError(f"{table} is not UTF-8: save the table as UTF-8.") from None
    except csv.Error as error:
        raise DataError(
            f"{table} breaks off as CSV ({error}): look for a quote that is never closed."
        ) from None


def _csv_rows(table: Path, stream: Iterable[str], delimiter: str, check_header: HeaderCheck) -> Iterator[Row]:
    rows = QuotedRows(stream, delimiter)
    header, swallowed = next(rows, ([], []))
    if rows.broke_off or swallowed:
        raise DataError(f"{table} has a quote in its header that is never closed: close or remove it.")
    check_header(header)
    number = 0
    for cells, swallowed in rows:
        if not any(cells):
            continue
        number += 1
        if rows.broke_off:
            raise DataError(
                f"{table} has a quote in row {number} that is never closed, and what follows cannot be told "
                "apart: close or remove it."
            )
        if swallowed:
            begun = number
            yield number, f"a quote in it is never closed, so that it goes on for {len(swallowed)} lines"
            for number in range(begun + 1, begun + 1 + len(swallowed)):
                yield number, f"it stands inside a quote that is opened in row {begun} and never closed"
        elif len(cells) != len(header):
            yield number, f"it has {len(cells)} cells where the header has {len(header)}"
        else:
            yield number, dict(zip(header, cells, strict=True))


def csv_header(table: Path) -> frozenset[str]:
    """The names in the first line of a CSV file, in lower case; none where it is not one."""
    with suppress(OSError, csv.Error):
        with table.open("rb") as stream:
            first = stream.readline(_HEADER_BYTES).decode("utf-8-sig", errors="replace")
        names = next(csv.reader([first], delimiter=_delimiter(first)), [])
        return frozenset(name.strip().casefold() for name in names)
    return frozenset()


def text_of(cell: Any) -> str | None:
    """A cell as text on one line; None for an empty one, or one that holds more than a word or number."""
    if (
        cell is None
        or isinstance(cell, list | tuple | dict | bytes)
        or (isinstance(cell, float) and cell != cell)
    ):
        return None
    return clean_text(str(cell)) or None


def _delimiter(header: str) -> str:
    return ";" if header.count(";") > header.count(",") else ","


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


def _read_json_list(table: Path) -> Iterator[Row]:
    values = iterate_json(table)
    # Not None: null is an item as well.
    end = object()
    for number in itertools.count(1):
        try:
            value = next(values, end)
        except ValueError as error:
            if number == 1:
                raise DataError(f"{table} is not a JSON list of objects ({error}).") from None
            yield number, f"the file breaks off here, and the rest is not counted ({error})"
            return
        if value is end:
            return
        yield number, value if isinstance(value, dict) else "it is not a JSON object"


def _read_parquet(table: Path, check_header: HeaderCheck) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(table) as file:
            check_header(file.schema_arrow.names)
            columns = simple_columns(table, file.schema_arrow)
            batches = file.iter_batches(batch_size=_BATCH, columns=columns)
            yield from enumerate((row for batch in batches for row in rows_of_batch(batch)), start=1)
    except (pa.ArrowException, UnicodeDecodeError) as error:  # names of columns may be any bytes
        raise DataError(f"{table} is not a Parquet table ({told(error)}).") from None
