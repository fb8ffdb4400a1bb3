"""A table with a row per picture: image, emotion and, where there is one, caption.

CSV, TSV, JSON lines, a JSON list or Parquet, also one called metadata in the folder of its pictures or in the
folder of each split (Hugging Face's imagefolder). Columns beyond those are optional (id, split, scene,
objects) or kept as attributes. A table may name pictures anywhere: whoever wrote a path meant it, links
included.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..splits import split_named
from .columns import NAMES, columns_of, fields_of
from .files import readable
from .folder import labels_of
from .places import spellings
from .record import Record, Source, SourceContext
from .rows import SUFFIXES, read_rows, text_of
from .walk import then_unlisted

# Not .json: galleries and cameras write a metadata.json that is no table.
_IN_FOLDERS = tuple(suffix for suffix in SUFFIXES if suffix != ".json")


def detects(path: Path) -> bool:
    """A file with one of SUFFIXES, or a folder with such a table called metadata or samples, or one per
    split."""
    return path.suffix.lower() in SUFFIXES if os.path.isfile(path) else bool(_tables_in(path))


def root(source: Path) -> Path:
    """The table's folder."""
    return source.parent if source.is_file() else source


@readable
def records(source: Path, context: SourceContext) -> Iterator[Record]:
    """Yield a record per row, in the tables' order; of a folder then the pictures that no row names.

    Without columns for them, emotion and split are told by the folders on the way to the picture.
    Raises: DataError when a file cannot be read as a table, or has no column for the image.
    """
    if source.is_file():
        yield from _Table(source, source.parent, None, context).records()
        return
    tables = _tables_in(source)
    if not tables:
        raise DataError(f"{source} holds no table called metadata or samples ({', '.join(_IN_FOLDERS)}).")
    listed = (record for table, split in tables for record in _Table(table, source, split, context).records())
    yield from then_unlisted(listed, source, source, context, [table for table, _ in tables])


class _Table:
    """One table of a source: its rows become records. split: of all its rows, None where they tell."""

    def __init__(self, path: Path, top: Path, split: str | None, context: SourceContext):
        self._path, self._split, self._taxonomy = path, split, context.taxonomy
        self._shown = path.relative_to(top).as_posix()
        # Rows of several tables may have the same file name.
        self._prefix = self._shown[: -len(path.name)]
        self._folder = str(path.parent)
        # Rows have mostly the same columns, and few folders.
        self._columns = lru_cache(maxsize=16)(columns_of)
        self._told_by_folder = lru_cache(maxsize=1024)(self._labels)

    def records(self) -> Iterator[Record]:
        """Yield a record per row. Raises: DataError as `records`."""
        for number, cells in read_rows(self._path, self._check_header):
            where = f"{self._shown}, row {number}"
            if isinstance(cells, str):
                yield Record(where, None, problem=("bad_row", cells))
            else:
                yield self._record(where, cells)

    def _check_header(self, header: Sequence[str]) -> None:
        if "image" not in columns_of(header):
            raise DataError(f"{self._path} has no column 'image': name one {', '.join(NAMES['image'])}.")

    def _record(self, where: str, cells: Mapping[str, Any]) -> Record:
        columns = self._columns(tuple(cells))
        if "image" not in columns:
            return Record(where, None, problem=("bad_row", "it has no image"))
        if text_of(cells[columns["image"]]) is None:
            return Record(where, None, problem=("bad_row", "it names no image"))
        # As written, line breaks too: a file may be called so.
        written = str(cells[columns["image"]]).strip()
        fields = fields_of(cells, columns)
        folder = f"{self._prefix}{written}".replace("\\", "/").rpartition("/")[0]
        emotion, split = self._told_by_folder(folder)
        fields["split"] = fields["split"] or self._split or split
        if "emotion" not in columns:
            fields["emotion"] = emotion
        return Record(name=f"{self._prefix}{written}", image=_find(self._folder, written), **fields)

    def _labels(self, folder: str) -> tuple[str | None, str | None]:
        """Emotion and split by the folders on the way to a picture.

        A folder that is called otherwise is no wrong label: nobody said that folders are labels here.
        """
        emotion, split = labels_of(tuple(folder.split("/")), self._taxonomy)
        is_known = emotion is not None and self._taxonomy.forgiving_index(emotion) is not None
        return emotion if is_known else None, split


def _find(folder: str, written: str) -> Path:
    """The path that a cell means: as written, with backslashes turned, or in another Unicode composition."""
    for spelling in spellings(written):
        path = os.path.join(folder, spelling)
        try:
            os.stat(path)
        except (OSError, ValueError):  # longer than a name may be, or with a null character
            continue
        return Path(path)
    return Path(folder) / written


def _tables_in(folder: Path) -> list[tuple[Path, str | None]]:
    """The tables of a folder with their splits: one for all, or one in the folder of each split."""
    whole = _table_in(folder)
    if whole is not None:
        return [(whole, None)]
    found: list[tuple[Path, str | None]] = []
    for inner in sorted(folder.iterdir()) if os.path.isdir(folder) else ():
        if split_named(inner.name) and (table := _table_in(inner)) is not None:
            found.append((table, inner.name))
    return found


def _table_in(folder: Path) -> Path | None:
    for stem in ("metadata", "samples"):
        for suffix in _IN_FOLDERS:
            if os.path.isfile(folder / f"{stem}{suffix}"):
                return folder / f"{stem}{suffix}"
    return None


TABLE = Source(name="table", detects=detects, root=root, records=records)
