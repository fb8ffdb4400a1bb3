"""Random access to the rows of a store's shards, without holding the store in memory, or its files open."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError
from .digests import Digests
from .report import printable
from .shards import ShardStore
from .tensor_files import read_header

_DTYPES = {"F16": torch.float16, "F32": torch.float32}


class _Stored(NamedTuple):
    """Where a tensor lies in its file. row: the shape of one row; begin, row_bytes: in bytes."""

    dtype: torch.dtype
    row: tuple[int, ...]
    begin: int
    row_bytes: int


class ShardReader:
    """The rows of a store whose shards are all there, read from the disk or held in memory.

    A file is open only while a row of it is read: a large store has thousands, and a process may often have
    no more than 256 open. Nor is it mapped: each mapping keeps a descriptor too.
    """

    def __init__(self, store: ShardStore, memory_limit: int):
        """memory_limit: in bytes; a store of at most this size is held in memory once it was read."""
        self.store = store
        self._parts = store.parts
        self._paths = [str(shard.path) for shard in store.shards]
        self.size = sum(os.stat(path).st_size for path in self._paths)
        self.in_memory = self.size <= memory_limit
        self._layouts: dict[int, dict[str, _Stored]] = {}
        self._held: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._parts.digests)

    def __contains__(self, digest: str) -> bool:
        return digest in self._parts.digests

    def hold(self) -> None:
        """Read everything into memory now. Raises: FileNotFoundError; EOFError where a shard is damaged."""
        self.in_memory = True
        for number in range(len(self._parts)):
            self._file(number).close()

    def rows(self, digest: str, *names: str) -> list[Tensor]:
        """Return the rows of some tensors that belong to a content hash, copied.

        Raises: KeyError; DataError where the shard cannot be read any more.
        """
        place = self._parts.digests.place(digest)
        if place is None:
            raise KeyError(digest)
        number = int(self._parts.part_of(np.asarray(place)))
        row = place - int(self._parts.starts[number])
        return [tensor[0] for tensor in self._read(number, row, row + 1, names)]

    def gather(self, digests: Digests, name: str) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Yield (which of `digests` [k], their rows [k, ...], copied) shard by shard.

        Raises: KeyError; DataError where a shard cannot be read any more.
        """
        places = self._parts.digests.places(digests)
        if len(places) and places.min() < 0:
            raise KeyError(digests[int(places.argmin())])
        order = np.argsort(places, kind="stable")
        numbers = self._parts.part_of(places[order])
        for run in np.split(order, np.flatnonzero(np.diff(numbers)) + 1) if len(order) else ():
            number = int(self._parts.part_of(places[run[:1]])[0])
            rows = places[run] - self._parts.starts[number]  # rising
            first, last = int(rows[0]), int(rows[-1])
            [tensor] = self._read(number, first, last + 1, (name,))
            yield run, tensor[torch.from_numpy(rows - first)]

    def _read(self, number: int, begin: int, end: int, names: tuple[str, ...]) -> list[Tensor]:
        """Rows `begin` to `end` of some tensors of a shard: [end - begin, ...] each."""
        try:
            with self._file(number) as file:
                if number not in self._layouts:
                    self._layouts[number] = _layout(file)
                return [_rows(file, self._layouts[number][name], begin, end) for name in names]
        except (OSError, EOFError) as error:
            told = getattr(error, "strerror", None) or error
            raise DataError(
                f"{printable(self._paths[number], None)}: this part of the cache was in use and can no "
                f"longer be read ({told}); run this again (a training with --resume): what is missing or "
                "damaged is made anew. Where another `cache` or `train` is at work on a set that has "
                "changed, it may have removed it."
            ) from error

    def _file(self, number: int) -> BinaryIO:
        """Open a shard, on the disk or in memory. Raises: OSError, EOFError where it is damaged."""
        if not self.in_memory:
            return self._opened(number)
        if number not in self._held:
            with self._opened(number) as file:
                self._held[number] = file.read()
        return io.BytesIO(self._held[number])  # which does not copy

    def _opened(self, number: int) -> BinaryIO:
        """Open a shard that is still as it was when its checksum was compared."""
        file = open(self._paths[number], "rb")  # noqa: SIM115 - it is the caller's to close
        if not self.store.is_as_checked(number, os.fstat(file.fileno())):
            file.close()
            raise EOFError("its bytes are no longer those that were written")
        return file


def _rows(file: BinaryIO, stored: _Stored, begin: int, end: int) -> Tensor:
    file.seek(stored.begin + begin * stored.row_bytes)
    data = _exactly(file, (end - begin) * stored.row_bytes)
    return torch.frombuffer(data, dtype=stored.dtype).view(end - begin, *stored.row)


def _layout(file: BinaryIO) -> dict[str, _Stored]:
    """Where the tensors of a safetensors file are."""
    header, data = read_header(file)
    found = {}
    for name, told in header.items():
        if name != "__metadata__":
            rows, *row = told["shape"]
            begin, end = told["data_offsets"]
            found[name] = _Stored(_DTYPES[told["dtype"]], tuple(row), data + begin, (end - begin) // rows)
    return found


def _exactly(file: BinaryIO, count: int) -> bytearray:
    data = bytearray(file.read(count))
    if len(data) < count:
        raise EOFError("it is shorter than it was")
    return data
