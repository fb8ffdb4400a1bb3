"""The Parquet tables of a set: their columns, and reading and writing them whole.

Rows travel as plain tuples of named columns; `samples.py` gives them a type. Equal rows are equal bytes: the
order of rows is the caller's, and the row groups, the compression and the columns are fixed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DataError
from ..files import atomic_path

_ROW_GROUP = 8192

# Arrow's own pools keep what was freed: a table of 40 MB then costs 170 MB of memory for good.
pa.set_memory_pool(pa.system_memory_pool())

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
        # "given": it came with the source; "model" or "person": who wrote it.
        pa.field("origin", pa.string(), nullable=False),
        pa.field("model", pa.string()),
        pa.field("prompt_version", pa.string()),
        pa.field("settings", pa.string()),
        pa.field("attempts", pa.int32()),
        pa.field("mended", pa.list_(pa.string())),
        pa.field("faults", pa.list_(pa.string())),
        pa.field("asked_again", pa.list_(pa.string())),
        pa.field("draft", pa.string()),
        pa.field("blind_emotion", pa.string()),
        pa.field("blind_model", pa.string()),
        pa.field("review", pa.string()),
        # As JSON: later askings that gave no usable caption, so that this one stayed.
        pa.field("failed", pa.list_(pa.string())),
    ]
)
"""A row per picture that was asked about, or came with a caption.

sha256: of the picture that the caption describes, so that a caption never outlives its picture. caption: ""
where it was set aside or rejected: then the picture has none. model, prompt_version, settings (JSON),
attempts: how it was written. mended: what was taken off the answer. faults: why it was set aside (keys of
`captions.FAULTS`), asked_again: the faults of all answers but the last, for which they were asked for again,
and draft: the answer that was set aside, or what stood here before a person mended it. blind_emotion: which
emotion a model sees in the sentence alone, by blind_model. review: "accepted", "mended" or "rejected" by a
person.
"""

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
    return list(iterate_table(path, schema))


def iterate_table(path: Path, schema: pa.Schema) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table in their order, a row group in memory at a time. Raises: as `read_table`."""
    if not path.is_file():
        return
    try:
        with path.open("rb") as stream, pq.ParquetFile(stream) as file:
            present = _present(file.schema_arrow, schema)
            for batch in file.iter_batches(_ROW_GROUP, columns=present.names):
                yield from _whole(pa.Table.from_batches([batch]), schema).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def arrow_table(path: Path, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    """Read some columns of a table, without rows where there is no such file. Raises: as `read_table`."""
    wanted = pa.schema([schema.field(name) for name in columns])
    if not path.is_file():
        return wanted.empty_table()
    try:
        with path.open("rb") as stream, pq.ParquetFile(stream) as file:
            present = _present(file.schema_arrow, wanted)
            return _whole(file.read(columns=present.names, use_threads=False), wanted)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def _present(found: pa.Schema, wanted: pa.Schema) -> pa.Schema:
    """The wanted columns that are there. Those that may be null came later than some sets."""
    missing = [field.name for field in wanted if field.name not in found.names and not field.nullable]
    if missing:
        raise pa.ArrowInvalid(f"it lacks {', '.join(missing)}")
    return pa.schema([field for field in wanted if field.name in found.names])


def _whole(table: pa.Table, schema: pa.Schema) -> pa.Table:
    for field in schema:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(schema.names).cast(schema)


def _unreadable(path: Path, error: Exception) -> DataError:
    first = str(error).splitlines()[0]
    return DataError(f"{path} is not a table of a set ({first}): make the set anew with `prepare`.")
