"""Rows of Arrow tables that anybody may have made: simple values only, and no row spoils another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import DataError


def told(error: BaseException) -> str:
    """What an error of Arrow says, on one line."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def simple_columns(file: Path, schema: Any) -> list[str]:
    """The columns of text, numbers and truth values, and of lists of these; all that a set can hold.

    Raises: DataError when two columns have one name.
    """
    twice = next((name for name, count in Counter(schema.names).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"{file} has two columns that are called {twice!r}: rename one.")
    return [field.name for field in schema if _is_simple(field.type)]


def rows_of_batch(batch: Any) -> Iterator[Mapping[str, Any] | str]:
    """Yield the cells of each row of a record batch, or what is wrong with the row."""
    try:
        rows = batch.to_pylist()
    except ValueError:  # UnicodeDecodeError is one: Arrow takes any bytes for text
        if len(batch) == 1:
            yield "a text in it is not UTF-8"
            return
        half = len(batch) // 2
        yield from rows_of_batch(batch.slice(0, half))
        yield from rows_of_batch(batch.slice(half))
        return
    yield from rows


def _is_simple(kind: Any) -> bool:
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind) or types.is_dictionary(kind):
        kind = kind.value_type
    checks = (
        types.is_string,
        types.is_large_string,
        types.is_integer,
        types.is_floating,
        types.is_boolean,
        types.is_null,
    )
    return any(check(kind) for check in checks)
