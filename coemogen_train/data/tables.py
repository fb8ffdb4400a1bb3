"""The Parquet tables of a set: their columns, and reading and writing them whole.

Rows travel as plain tuples of named columns; `samples.py` gives them a type. Equal rows are equal bytes: the
order of rows is the caller's, and the row groups, the compression and the columns are fixed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DataError
from ..files import atomic_path

_ROW_GROUP = 8192

SAMPLES = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("image", pa.string(), nullable=False),
        pa.field("emotion", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("scene", pa.string()),
        pa.field("objects", pa.list_(pa.string()), nullable=False),
        # Whatever else the source said of the picture, as JSON: one object of strings, sorted keys.
        pa.field("attributes", pa.string(), nullable=False),
    ]
)
"""image: with forward slashes, relative to the set's image root or absolute. sha256: of the file's bytes."""

CAPTIONS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        # "given": it came with the source; anything else names what wrote it.
        pa.field("origin", pa.string(), nullable=False),
    ]
)
"""sha256: of the picture that the caption describes, so that a caption never outlives its picture."""

SIMILARITIES = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("caption_sha256", pa.string(), nullable=False),
        pa.field("emotion", pa.string(), nullable=False),
        pa.field("similarity", pa.float64(), nullable=False),
        pa.field("encoder", pa.string(), nullable=False),
        pa.field("kept", pa.bool_(), nullable=False),
    ]
)
"""similarity: cosine of picture and caption. encoder: fingerprint of the CLIP. kept: by the filter."""


def write_table(path: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write `rows` in their order, a row group at a time, atomically."""
    with atomic_path(path) as part, pq.ParquetWriter(part, schema, compression="zstd") as writer:
        batch: list[Mapping[str, Any]] = []
        for row in rows:
            batch.append(row)
            if len(batch) == _ROW_GROUP:
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
                batch = []
        if batch:
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))


def read_table(path: Path, schema: pa.Schema) -> list[dict[str, Any]]:
    """Return the rows of a table, only the columns of `schema`; [] where there is no such file.

    Raises: DataError when the file is no Parquet or lacks a column.
    """
    if not path.is_file():
        return []
    try:
        with path.open("rb") as stream:
            table = pq.read_table(stream, columns=schema.names)
        if table.column_names != schema.names:
            missing = [name for name in schema.names if name not in table.column_names]
            raise pa.ArrowInvalid(f"it lacks {', '.join(missing)}")
        return table.cast(schema).to_pylist()
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0]
        raise DataError(
            f"{path} is not a table of a set ({first}): make the set anew with `prepare`."
        ) from None
