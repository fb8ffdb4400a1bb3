"""Pictures in the cells of Arrow files: Parquet shards as the Hugging Face hub has them, and what
`save_to_disk` writes."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

# Rows decoded at a time, and how many of these batches are held at least: threads ask a little out of order.
_BATCH = 16
_HELD_BATCHES = 3
# More are held up to here, so that a run of small pictures is not decoded once more when it is copied.
_HELD_BYTES = 1 << 25
# A run is gone through up to three times: to check, to label and to copy.
_STREAMS = 3
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
    """The cells of a row group, which can only be read onwards.

    What was read last is held; rows before that are read again by another stream, from the beginning. As a
    run of pictures is gone through more than once, several streams stay open, each where its last reader
    was: then none of them ever goes back, however large the row group is.
    """

    def __init__(self, picture: CellPicture):
        self._picture = picture
        self._held: deque[_Cells] = deque()
        self._streams: OrderedDict[int, _Stream] = OrderedDict()
        self._begun = 0

    def row(self, number: int) -> Any:
        while (
            found := next((cells for cells in reversed(self._held) if number in cells.rows), None)
        ) is None:
            self._read(number)
        return found.cells[number - found.rows.start]

    def _read(self, number: int) -> None:
        """Go one step towards a row, with the stream that is nearest before it."""
        near = [name for name, stream in self._streams.items() if stream.place <= number]
        name = max(near, key=lambda name: self._streams[name].place, default=self._begun)
        if name not in self._streams:
            self._streams[name] = _Stream(_batches_of(self._picture))
            self._begun += 1
        self._streams.move_to_end(name)
        while len(self._streams) > _STREAMS:
            self._streams.popitem(last=False)
        self._hold(self._streams[name].read(self._picture.nested))

    def _hold(self, cells: _Cells) -> None:
        # Not twice, where another stream has come here, too.
        self._held = deque(held for held in self._held if held.rows != cells.rows)
        self._held.append(cells)
        while len(self._held) > _HELD_BATCHES and sum(held.size for held in self._held) > _HELD_BYTES:
            self._held.popleft()


@dataclass(frozen=True)
class _Cells:
    """Some cells of bytes, `size` bytes in all. rows: which ones of their row group."""

    rows: range
    cells: Any
    size: int


class _Stream:
    """Record batches of one row group, of which the next begins with the row `place`."""

    def __init__(self, batches: Iterator[Any]):
        self._batches = batches
        self.place = 0

    def read(self, nested: bool) -> _Cells:
        batch = next(self._batches, None)
        if batch is None:
            raise ValueError("the file has fewer rows than when it was listed")
        rows = range(self.place, self.place + len(batch))
        self.place = rows.stop
        return _Cells(rows, _bytes_of(batch.column(0), nested), batch.nbytes)


def _batches_of(picture: CellPicture) -> Iterator[Any]:
    import pyarrow.parquet as pq

    # A small buffer streams the column; without it all of the row group would be in memory.
    file = pq.ParquetFile(
        picture.file,
        buffer_size=1 << 20,
        metadata=_metadata(picture.file, picture.size, picture.mtime_ns),
    )
    columns = [f"{picture.column}.bytes" if picture.nested else picture.column]
    batches: Iterator[Any] = file.iter_batches(_BATCH, row_groups=[picture.group], columns=columns)
    return batches


@lru_cache(maxsize=_READERS)
def _metadata(file: Path, size: int, mtime_ns: int) -> Any:
    """What stands at the end of a Parquet file; with a row group for every hundred rows it is long."""
    import pyarrow.parquet as pq

    return pq.read_metadata(file)


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
    """Yield the record batches of an Arrow file, stream or not, without reading what is not asked for.

    Raises: pa.ArrowException, also where cells are said to lie outside the file: Arrow believes that, and the
    process would die of it.
    """
    import pyarrow as pa

    source = pa.memory_map(str(path))
    try:
        file = pa.ipc.open_file(source)
    except pa.ArrowInvalid:
        source.seek(0)
        yield from map(_checked, pa.ipc.open_stream(source))
        return
    for number in range(file.num_record_batches):
        yield _checked(file.get_batch(number))


def _checked(batch: Any) -> Any:
    import pyarrow as pa

    for column in batch.columns:
        for part in column.flatten() if pa.types.is_struct(column.type) else (column,):
            try:
                part.validate(full=True)
            except pa.ArrowInvalid as error:
                # Told of text alone whose cells lie where they should: that is a fault of its row.
                if "UTF8" not in str(error):
                    raise
    return batch


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
