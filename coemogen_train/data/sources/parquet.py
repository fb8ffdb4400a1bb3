"""Pictures in the cells of tables, as the data sets of the Hugging Face hub have them.

The hub's layout is a folder of Parquet shards (data/train-00000-of-00002.parquet); `save_to_disk` writes
Arrow files instead. The label is text, or a number whose name the file's own schema tells.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..splits import split_named
from .arrow_cells import rows_of_batch, simple_columns, told
from .arrow_pictures import CellPicture, record_batches
from .columns import columns_of, fields_of
from .files import files_in, readable
from .places import OUTSIDE, Places
from .record import Record, Source, SourceContext

_SUFFIXES = (".parquet", ".arrow")
_BATCH = 1024
_WORDS = re.compile(r"[^a-z0-9]+")


def detects(path: Path) -> bool:
    """A Parquet or Arrow file with pictures in its cells, or a folder of them in the hub's layouts.

    A damaged file counts where the hub's layout says what it was: then it is told that it is damaged.
    """
    return any(_has_pictures(file, path) for file in _files(path))


def _has_pictures(file: Path, path: Path) -> bool:
    try:
        layout = _layout(file)
    except DataError:
        return file != path and split_of(file.relative_to(path)) is not None
    # Paths in Parquet are an ordinary table.
    return layout is not None and layout.in_bytes


def root(source: Path) -> Path:
    """The folder."""
    return source if source.is_dir() else source.parent


@readable
def records(source: Path, context: SourceContext) -> Iterator[Record]:
    """Yield a record per row, file by file in the order of their names; pictures stay unread.

    Raises: DataError when a file cannot be read, or none has a column of pictures.
    """
    top = root(source)
    places = Places(top)
    files = [(file, _layout(file)) for file in _files(source) if not _of_the_set(file, top, context.out)]
    if all(layout is None for _, layout in files):
        raise DataError(f"{source} has no Parquet or Arrow file with a column of pictures called image.")
    for file, layout in files:
        shown = file.relative_to(top).as_posix()
        if layout is None:
            context.tally.note("other_files", shown)
            continue
        split = split_of(Path(shown))
        columns = columns_of(layout.others)
        columns.pop("image", None)  # such as file_name beside the picture itself
        for place, (group, row, cells) in enumerate(_rows(file, layout)):
            name = f"{shown}/{place}"
            if isinstance(cells, str):
                yield Record(name, None, problem=("bad_row", cells))
                continue
            fields = fields_of(_named(cells, layout), columns)
            fields["split"] = fields["split"] or split
            yield _record(name, file, layout, (group, row), cells, fields, places)


@dataclass(frozen=True)
class _Layout:
    """What stands in a file. image: column of pictures; bytes in it (nested: as {bytes, path}), else paths.

    others: the columns beside it; labels: by column, the names of its numbers. size, mtime_ns: of the file.
    """

    image: str
    in_bytes: bool
    nested: bool
    others: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]]
    size: int
    mtime_ns: int


def _record(
    name: str,
    file: Path,
    layout: _Layout,
    place: tuple[int, int],
    cells: Mapping[str, Any],
    fields: Mapping[str, Any],
    places: Places,
) -> Record:
    if layout.in_bytes:
        picture = CellPicture(
            file, layout.size, layout.mtime_ns, layout.image, layout.nested, place[0], place[1]
        )
        return Record(name=name, image=picture, **fields)
    written = cells.get(layout.image)
    if not isinstance(written, str) or not written.strip():
        return Record(name=name, image=None, problem=("bad_row", "it names no image"))
    path, inside = places.find(written, (file.parent.relative_to(places.source) / written).as_posix())
    return Record(name=name, image=path, problem=None if inside else OUTSIDE, **fields)


def _named(cells: Mapping[str, Any], layout: _Layout) -> dict[str, Any]:
    """The cells without the picture, numbers of labels by their names."""
    named = {column: cells[column] for column in layout.others}
    for column, names in layout.labels.items():
        value = named.get(column)
        if isinstance(value, int) and not isinstance(value, bool):
            # -1 is how the hub says that there is no label.
            named[column] = names[value] if 0 <= value < len(names) else None
    return named


def _layout(file: Path) -> _Layout | None:
    """What stands in a file, None when no column can be one of pictures. Raises: DataError."""
    import pyarrow as pa

    schema = _schema(file)
    usable = simple_columns(file, schema)
    features = _features(schema.metadata or {})

    def kind(name: str) -> tuple[bool, bool] | None:
        """(in bytes, nested) when the column may be one of pictures."""
        column = schema.field(name).type
        nested = pa.types.is_struct(column) and column.get_field_index("bytes") >= 0
        inner = column.field("bytes").type if nested else column
        is_bytes = pa.types.is_binary(inner) or pa.types.is_large_binary(inner)
        return (True, nested) if is_bytes else None

    named = columns_of(schema.names).get("image")
    candidates = [named] if named is not None else []
    candidates += [name for name in schema.names if _is(features.get(name), "Image")]
    candidates += [name for name in schema.names if kind(name) == (True, True)]
    image = next((name for name in candidates if kind(name) is not None), None)
    in_bytes, nested = (kind(image) if image is not None else None) or (False, False)
    if image is None and named in usable:
        image = named  # of paths
    if image is None:
        return None
    simple = tuple(name for name in usable if name != image)
    labels = {
        name: tuple(str(label) for label in features[name]["names"])
        for name in simple
        if _is(features.get(name), "ClassLabel") and isinstance(features[name].get("names"), list)
    }
    status = file.stat()
    return _Layout(image, in_bytes, nested, simple, labels, status.st_size, status.st_mtime_ns)


def _schema(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if file.suffix.lower() == ".parquet":
            return _with_names(pq.read_schema(file))
        with pa.memory_map(str(file)) as source:
            try:
                return _with_names(pa.ipc.open_file(source).schema)
            except pa.ArrowInvalid:
                source.seek(0)
                return _with_names(pa.ipc.open_stream(source).schema)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read ({told(error)}): fetch or copy it again.") from None


def _with_names(schema: Any) -> Any:
    """The schema, if its names are text: they are decoded when they are asked for.

    Raises: UnicodeDecodeError.
    """
    list(schema.names)
    return schema


def _features(metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    """The features that the hub's own library writes into a schema; none where another one wrote it."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _is(feature: Any, kind: str) -> bool:
    return isinstance(feature, dict) and feature.get("_type") == kind


def _rows(file: Path, layout: _Layout) -> Iterator[tuple[int, int, Mapping[str, Any] | str]]:
    """Yield (row group, row in it, cells or what is wrong with them) without the pictures' bytes.

    Raises: DataError.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [*layout.others, *([] if layout.in_bytes else [layout.image])]
    try:
        if file.suffix.lower() != ".parquet":
            row = 0
            for batch in record_batches(file):
                for start in range(0, len(batch), _BATCH):
                    for cells in rows_of_batch(batch.select(columns).slice(start, _BATCH)):
                        yield 0, row, cells
                        row += 1
            return
        with pq.ParquetFile(file) as parquet:
            for group in range(parquet.num_row_groups):
                row = 0
                if not columns:
                    for row in range(parquet.metadata.row_group(group).num_rows):
                        yield group, row, {}
                    continue
                for batch in parquet.iter_batches(_BATCH, row_groups=[group], columns=columns):
                    for cells in rows_of_batch(batch):
                        yield group, row, cells
                        row += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{file} cannot be read to its end ({told(error)}): fetch or copy it again."
        ) from None


def _files(path: Path) -> list[Path]:
    """The files that may hold pictures: `path`, or those in it and two folders deep, by name."""
    if os.path.isfile(path):
        return [path] if path.suffix.lower() in _SUFFIXES else []
    # The files of a script's cache stand beside those that are the data set.
    return [file for file in files_in(path, _SUFFIXES, depth=2) if not file.name.startswith("cache-")]


def _of_the_set(file: Path, source: Path, out: Path) -> bool:
    """Whether a file belongs to the set that is being made, in a folder of the source."""
    return out.resolve() != source.resolve() and out.is_relative_to(source) and file.is_relative_to(out)


def split_of(shown: Path) -> str | None:
    """The split that a file's name or its folders tell: data/train-00000-of-00002.parquet,
    validation/0.parquet."""
    for part in (shown.stem, *reversed(shown.parts[:-1])):
        for word in _WORDS.split(part.casefold()):
            if (split := split_named(word)) is not None:
                return split
    return None


PARQUET = Source(name="parquet", detects=detects, root=root, records=records)
