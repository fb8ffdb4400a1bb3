"""A table with a row per picture: image, emotion and, where there is one, caption.

CSV, TSV, JSON lines, a JSON list or Parquet, also one called metadata in the folder of its pictures or in the
folder of each split (Hugging Face's imagefolder). Columns beyond those are optional (id, split, scene,
objects) or kept as attributes. A table may name pictures anywhere: whoever wrote a path meant it, links
included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..splits import split_named
from .columns import NAMES, columns_of, fields_of
from .folder import labels_of
from .places import spellings
from .record import Record, Source, SourceContext
from .rows import SUFFIXES, read_rows, text_of
from .walk import Listed, unlisted_below

# Not .json: galleries and cameras write a metadata.json that is no table.
_IN_FOLDERS = tuple(suffix for suffix in SUFFIXES if suffix != ".json")


def detects(path: Path) -> bool:
    """A file with one of SUFFIXES, or a folder with such a table called metadata or samples, or one per
    split."""
    return path.suffix.lower() in SUFFIXES if path.is_file() else bool(_tables_in(path))


def root(source: Path) -> Path:
    """The table's folder."""
    return source.parent if source.is_file() else source


def records(source: Path, context: SourceContext) -> Iterator[Record]:
    """Yield a record per row, in the tables' order; of a folder then the pictures that no row names.

    Without columns for them, emotion and split are told by the folders on the way to the picture.
    Raises: DataError when a file cannot be read as a table, or has no column for the image.
    """
    if source.is_file():
        yield from _rows(source, source.parent, None, context)
        return
    tables = _tables_in(source)
    if not tables:
        raise DataError(f"{source} holds no table called metadata or samples ({', '.join(_IN_FOLDERS)}).")
    listed = Listed()
    for table, split in tables:
        for record in _rows(table, source, split, context):
            if isinstance(record.image, Path):
                listed.add(record.image)
            yield record
    yield from unlisted_below(source, source, listed, context)


def _rows(table: Path, top: Path, split: str | None, context: SourceContext) -> Iterator[Record]:
    shown = table.relative_to(top).as_posix()

    def check_header(header: Sequence[str]) -> None:
        if "image" not in columns_of(header):
            raise DataError(f"{table} has no column 'image': name one {', '.join(NAMES['image'])}.")

    for number, cells in read_rows(table, check_header):
        where = f"{shown}, row {number}"
        if isinstance(cells, str):
            yield Record(where, None, problem=("bad_row", cells))
        else:
            yield _record(table, top, where, cells, split, context)


def _record(
    table: Path,
    top: Path,
    where: str,
    cells: Mapping[str, Any],
    split: str | None,
    context: SourceContext,
) -> Record:
    columns = columns_of(cells)
    if "image" not in columns:
        return Record(where, None, problem=("bad_row", "it has no image"))
    if text_of(cells[columns["image"]]) is None:
        return Record(where, None, problem=("bad_row", "it names no image"))
    # As written, line breaks too: a file may be called so.
    written = str(cells[columns["image"]]).strip()
    below = table.parent.relative_to(top)
    fields = fields_of(cells, columns)
    emotion, folder_split = labels_of((below / written.replace("\\", "/")).parts[:-1], context.taxonomy)
    fields["split"] = fields["split"] or split or folder_split
    # A folder that is called otherwise is no wrong label: nobody said that folders are labels here.
    if "emotion" not in columns and emotion and context.taxonomy.forgiving_index(emotion) is not None:
        fields["emotion"] = emotion
    # Rows of several tables may have the same file name.
    name = written if below == Path() else f"{below.as_posix()}/{written}"
    return Record(name=name, image=_find(table.parent, written), **fields)


def _find(folder: Path, written: str) -> Path:
    """The path that a cell means: as written, with backslashes turned, or in another Unicode composition."""
    for spelling in spellings(written):
        path = folder / spelling
        try:
            if path.exists():
                return path
        except (OSError, ValueError):  # longer than a name may be, or with a null character
            continue
    return folder / written


def _tables_in(folder: Path) -> list[tuple[Path, str | None]]:
    """The tables of a folder with their splits: one for all, or one in the folder of each split."""
    whole = _table_in(folder)
    if whole is not None:
        return [(whole, None)]
    found: list[tuple[Path, str | None]] = []
    if folder.is_dir():
        for inner in sorted(path for path in folder.iterdir() if split_named(path.name) and path.is_dir()):
            table = _table_in(inner)
            if table is not None:
                found.append((table, inner.name))
    return found


def _table_in(folder: Path) -> Path | None:
    for stem in ("metadata", "samples"):
        for suffix in _IN_FOLDERS:
            if (folder / f"{stem}{suffix}").is_file():
                return folder / f"{stem}{suffix}"
    return None


TABLE = Source(name="table", detects=detects, root=root, records=records)
