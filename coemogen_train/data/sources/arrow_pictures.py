"""Pictures in the cells of Arrow files: Parquet shards as the Hugging Face hub has them, and what
`save_to_disk` writes."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

# Rows decoded at a time, and how many such batches are held: threads ask a little out of order.
_BATCH = 16
_HELD = 8
_READERS = 4


@dataclass(frozen=True)
class CellPicture:
    """A picture in row `row`, from 0, of the part `group` of a file: a Parquet row group, or all of an Arrow
    file.

    column: of bytes, or of {bytes, path} with `nested`. size, mtime_ns: of the file, as it was listed.
    """

    file: Path
    size: int
    mtime_ns: int
    column: str
    nested: bool
    group: int
    row: int

    @property
    def key(self) -> str:
        """The file as it was listed, and the place in it."""
        return f"{self.file}|{self.size}|{self.mtime_ns}|{self.column}|{self.group}|{self.row}"

    def read(self, max_bytes: int) -> bytes:
        """The bytes of the cell; quick where rows are asked for about in their order.

        Raises: OSError or ValueError where they cannot be had, also where there are more than `max_bytes`.
        """
        import pyarrow as pa

        try:
            cell = _cell(self)
        except pa.ArrowException as error:
            raise ValueError(str(error).splitlines()[0]) from None
        size = cell.as_buffer().size if cell.is_valid else -1
        if size < 0:
            raise ValueError("the cell has no bytes")
        if size > max_bytes:
            raise ValueError(f"it has {size} bytes, more than {max_bytes}")
        return bytes(cell.as_buffer())


class _Reader(Protocol):
    def row(self, number: int) -> Any:
        """The cell of bytes in this row, as an Arrow scalar."""


class _ParquetGroup:
    """The cells of a row group, read onwards; back only as far as the window, or from its beginning."""

    def __init__(self, picture: CellPicture):
        self._picture = picture
        self._window: deque[tuple[int, Any]] = deque(maxlen=_HELD)
        self._batches: Iterator[Any] | None = None
        self._next = 0

    def row(self, number: int) -> Any:
        if self._batches is None or number < (self._window[0][0] if self._window else 0):
            self._begin()
        while number >= self._next:
            assert self._batches is not None  # noqa: S101 - begun above
            batch = next(self._batches, None)
            if batch is None:
                raise ValueError("the file has fewer rows than when it was listed")
            self._window.append((self._next, _bytes_of(batch.column(0), self._picture.nested)))
            self._next += len(batch)
        start, cells = next(held for held in reversed(self._window) if held[0] <= number)
        return cells[number - start]

    def _begin(self) -> None:
        import pyarrow.parquet as pq

        picture = self._picture
        # A small buffer streams the column; without it all of the row group would be in memory.
        file = pq.ParquetFile(picture.file, buffer_size=1 << 20)
        columns = [f"{picture.column}.bytes" if picture.nested else picture.column]
        self._batches = file.iter_batches(_BATCH, row_groups=[picture.group], columns=columns)
        self._window.clear()
        self._next = 0


class _ArrowFile:
    """The cells of an Arrow file of record batches; what is not read stays on disk."""

    def __init__(self, picture: CellPicture):
        self._nested = picture.nested
        self._starts: list[int] = []
        self._batches: list[Any] = []
        rows = 0
        for batch in record_batches(picture.file):
            self._starts.append(rows)
            self._batches.append(batch.column(batch.schema.names.index(picture.column)))
            rows += len(batch)
        self._rows = rows

    def row(self, number: int) -> Any:
        from bisect import bisect_right

        if number >= self._rows:
            raise ValueError("the file has fewer rows than when it was listed")
        place = bisect_right(self._starts, number) - 1
        return _bytes_of(self._batches[place], self._nested)[number - self._starts[place]]


def record_batches(path: Path) -> Iterator[Any]:
    """Yield the record batches of an Arrow file, stream or not, without reading what is not asked for."""
    import pyarrow as pa

    source = pa.memory_map(str(path))
    try:
        file = pa.ipc.open_file(source)
    except pa.ArrowInvalid:
        source.seek(0)
        yield from pa.ipc.open_stream(source)
        return
    for number in range(file.num_record_batches):
        yield file.get_batch(number)


def _bytes_of(column: Any, nested: bool) -> Any:
    return column.field("bytes") if nested else column


_lock = threading.Lock()
_readers: OrderedDict[tuple[Path, int, int, str, int], _Reader] = OrderedDict()


def _cell(picture: CellPicture) -> Any:
    """The cell, by the readers that are at hand: the last few files and row groups stay open."""
    where = (picture.file, picture.size, picture.mtime_ns, picture.column, picture.group)
    with _lock:
        reader = _readers.get(where)
        if reader is None:
            status = picture.file.stat()
            if (status.st_size, status.st_mtime_ns) != (picture.size, picture.mtime_ns):
                raise ValueError("the file changed since it was listed")
            is_parquet = picture.file.suffix.lower() == ".parquet"
            reader = _ParquetGroup(picture) if is_parquet else _ArrowFile(picture)
            _readers[where] = reader
        _readers.move_to_end(where)
        while len(_readers) > _READERS:
            _readers.popitem(last=False)
        return reader.row(picture.row)
