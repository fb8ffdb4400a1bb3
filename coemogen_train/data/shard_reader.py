"""Random access to the rows of a store's shards, without holding the store in memory."""

from __future__ import annotations

import json
import mmap
import os
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .digests import Digests
from .shards import ShardStore

MAPPED_LIMIT = 16 << 20
"""Bytes of a store whose pages may be in memory at a time."""

# Mappings without pages of their own: systems allow some 65,000 in all.
_IDLE_LIMIT = 8192
_DTYPES = {"F16": torch.float16, "F32": torch.float32}
_LENGTH_BYTES = 8  # of the length that stands before a safetensors header


class _Stored(NamedTuple):
    """Where a tensor lies in its file. row: the shape of one row; begin: in bytes."""

    dtype: torch.dtype
    rows: int
    row: tuple[int, ...]
    begin: int


class ShardReader:
    """The rows of a store whose shards are all there, mapped from the disk or held in memory."""

    def __init__(self, store: ShardStore, memory_limit: int, mapped_limit: int = MAPPED_LIMIT):
        """memory_limit: in bytes; a store of at most this size is read into memory, of others `mapped_limit`
        bytes (one shard at least) are mapped at a time, those that were used last."""
        self.store = store
        self._parts = store.parts
        self._paths = [str(shard.path) for shard in store.shards]
        self.size = sum(os.stat(path).st_size for path in self._paths)
        self.in_memory = self.size <= memory_limit
        self._limit = mapped_limit
        self._layouts: dict[int, dict[str, _Stored]] = {}
        self._open: OrderedDict[int, bytearray | mmap.mmap] = OrderedDict()
        self._idle: dict[int, bytearray | mmap.mmap] = {}
        self._mapped = 0

    def __len__(self) -> int:
        return len(self._parts.digests)

    def __contains__(self, digest: str) -> bool:
        return digest in self._parts.digests

    @property
    def mapped(self) -> int:
        """Bytes of the store that are mapped now."""
        return self._mapped

    def hold(self) -> None:
        """Read everything into memory now."""
        self.in_memory = True
        self._open.clear()
        self._idle.clear()
        self._mapped = 0
        for number in range(len(self._parts)):
            self._data(number)

    def row(self, digest: str, name: str) -> Tensor:
        """Return the row of tensor `name` that belongs to a content hash, no copy. Raises: KeyError."""
        place = self._parts.digests.place(digest)
        if place is None:
            raise KeyError(digest)
        number = int(self._parts.part_of(np.asarray(place)))
        return self._tensor(number, name)[place - int(self._parts.starts[number])]

    def gather(self, digests: Digests, name: str) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Yield (which of `digests` [k], their rows [k, ...], copied) shard by shard. Raises: KeyError."""
        places = self._parts.digests.places(digests)
        if len(places) and places.min() < 0:
            raise KeyError(digests[int(places.argmin())])
        order = np.argsort(places, kind="stable")
        numbers = self._parts.part_of(places[order])
        for run in np.split(order, np.flatnonzero(np.diff(numbers)) + 1) if len(order) else ():
            number = int(self._parts.part_of(places[run[:1]])[0])
            rows = torch.from_numpy(places[run] - self._parts.starts[number])
            yield run, self._tensor(number, name)[rows]

    def _tensor(self, number: int, name: str) -> Tensor:
        data = self._data(number)
        stored = self._layouts[number][name]
        count = stored.rows * int(np.prod(stored.row))
        flat = torch.frombuffer(data, dtype=stored.dtype, count=count, offset=stored.begin)
        return flat.view(stored.rows, *stored.row)

    def _data(self, number: int) -> bytearray | mmap.mmap:
        if (data := self._open.get(number)) is not None:
            self._open.move_to_end(number)
            return data
        data = self._idle.pop(number, None) or self._opened(number)
        self._open[number] = data
        if not self.in_memory:
            self._mapped += len(data)
            while self._mapped > self._limit and len(self._open) > 1:
                self._put_aside(*self._open.popitem(last=False))
        if number not in self._layouts:
            self._layouts[number] = _layout(data)
        return data

    def _opened(self, number: int) -> bytearray | mmap.mmap:
        with open(self._paths[number], "rb") as file:
            if self.in_memory:
                return bytearray(file.read())
            # A private mapping: who writes into a row writes into his own copy of the page.
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    def _put_aside(self, number: int, data: bytearray | mmap.mmap) -> None:
        """Give the memory of a mapping back. Where the system can take the pages alone, the mapping stays,
        which makes it cheap to come back to; else it goes, as soon as nobody has a row of it."""
        self._mapped -= len(data)
        if isinstance(data, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED") and len(self._idle) < _IDLE_LIMIT:
            data.madvise(mmap.MADV_DONTNEED)
            self._idle[number] = data


def _layout(data: bytearray | mmap.mmap) -> dict[str, _Stored]:
    """Where the tensors of a whole safetensors file are."""
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    header = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length])
    found = {}
    for name, told in header.items():
        if name != "__metadata__":
            rows, *row = told["shape"]
            begin = _LENGTH_BYTES + length + told["data_offsets"][0]
            found[name] = _Stored(_DTYPES[told["dtype"]], rows, tuple(row), begin)
    return found
