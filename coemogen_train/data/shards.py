"""Tensors per picture, in files of about a hundred pictures: how they are divided, written and checked.

A shard holds the pictures whose content hash begins with the same bits, in the order of the hashes. So what
is in a shard, and in which batches it was computed, follows from the set alone: not from names, from what an
interrupted run had finished, or from how many processes work. A shard is written whole or not at all, and a
damaged one is redone whole. A picture that comes or goes touches one shard. Captions, known by the hash of
their text, are kept alike.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load
from torch import Tensor

from ..files import PART_PREFIX, atomic_path, canonical_json, sweep_parts
from .digests import Digests, DigestSet, as_hex
from .tensor_files import read_header, write_tensors

FORMAT_VERSION = 1
PICTURES_PER_SHARD = 128
"""A shard holds this many pictures or fewer, on average between half of them and all."""

Contents = tuple[tuple[str, ...], dict[str, tuple[int, ...]]]
"""What a shard's header says: its content hashes, and by name its tensors' shapes."""

_METADATA = "coemogen_cache"
_WRITING_TRIES = 3


class Parts(Sequence[tuple[str, ...]]):
    """Content hashes in groups of a hundred or so; group i is made into strings when asked for.

    digests: all of them, sorted. starts: [groups + 1], where each group begins; group i is
    digests[starts[i] : starts[i + 1]].
    """

    def __init__(self, digests: DigestSet, per_part: int = PICTURES_PER_SHARD):
        """per_part: groups share as many leading bits as make at most so many on average."""
        bits = 0
        while len(digests) > per_part << bits:
            bits += 1
        self.digests = digests
        self.starts: NDArray[np.int64] = _starts(digests.array, bits)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, index: int) -> tuple[str, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[str, ...]]: ...
    def __getitem__(self, index: int | slice) -> tuple[str, ...] | list[tuple[str, ...]]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return as_hex(self.digests.array[self.starts[index] : self.starts[index + 1]])

    def part_of(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The group that each place in `digests` belongs to."""
        return np.searchsorted(self.starts, places, side="right") - 1


@dataclass(frozen=True)
class Shard:
    """One planned file. members: content hashes, sorted; row i of every tensor belongs to members[i]."""

    path: Path
    members: tuple[str, ...]


@dataclass(frozen=True)
class ShardStore:
    """All shards of one kind of tensor under one key.

    kind: the folder's name begins with it. key: everything the values depend on besides the pictures'
    content.
    """

    folder: Path
    key: Mapping[str, Any]
    parts: Parts
    _looked_at: dict[int, tuple[object, bool]] = field(default_factory=dict, compare=False, repr=False)
    _trusted: dict[int, object] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def plan(
        cls, cache: Path, kind: str, key: Mapping[str, Any], hashes: Iterable[str] | Digests | DigestSet
    ) -> ShardStore:
        """Lay out the shards of pictures with these content hashes (64 hexadecimal digits each)."""
        full_key = {"kind": kind, "format_version": FORMAT_VERSION, **key}
        folder = cache / f"{kind}-{_digest(canonical_json(full_key))}"
        return cls(folder, full_key, Parts(hashes if isinstance(hashes, DigestSet) else DigestSet(hashes)))

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def kind(self) -> str:
        """What is in it."""
        return str(self.key["kind"])

    def shard(self, number: int) -> Shard:
        """Shard `number` of the plan, from 0."""
        members, width = self.parts[number], len(str(len(self)))
        name = f"{number + 1:0{width}d}-of-{len(self)}-{_digest(''.join(members))}.safetensors"
        return Shard(self.folder / name, members)

    @property
    def shards(self) -> Iterator[Shard]:
        """All planned shards, made one after another."""
        return (self.shard(number) for number in range(len(self)))

    @property
    def plan_digest(self) -> str:
        """Differs whenever another key or other members are planned."""
        told = hashlib.sha256(canonical_json(self.key).encode("utf-8"))
        told.update(self.parts.digests.array.tobytes())
        return told.hexdigest()

    def write(self, shard: Shard, tensors: Mapping[str, Tensor]) -> None:
        """Write a shard atomically. tensors: each [len(members), ...]; equal values are equal bytes."""
        whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
        # One metadata key only: the library writes several in random order.
        header = canonical_json({"key": self.key, "members": shard.members, "sha256": _checksum(whole)})
        for last in (False,) * (_WRITING_TRIES - 1) + (True,):
            try:
                with atomic_path(shard.path) as part:
                    write_tensors(part, whole, {_METADATA: header})
                return
            except FileNotFoundError:  # another process, done with this store, swept our part file away
                if last:
                    raise

    def is_whole(self, shard: Shard) -> bool:
        """Say whether a shard is there, is the planned one, and has every byte that was written."""
        try:
            # Read rather than mapped: a mapped file cannot be replaced on Windows.
            tensors = load(shard.path.read_bytes())
            with safe_open(shard.path, framework="pt") as file:
                header = json.loads(file.metadata()[_METADATA])
            if header["key"] != self.key or tuple(header["members"]) != shard.members:
                return False
            return bool(header["sha256"] == _checksum(tensors))
        except (SafetensorError, OSError, ValueError, KeyError, TypeError):
            return False

    def is_done(self, number: int) -> bool:
        """As `is_whole` of shard `number`, but the file is read once only while it is the same: to be asked
        often."""
        shard = self.shard(number)
        try:
            file = shard.path.stat()
        except OSError:
            return False
        known = self._looked_at.get(number)
        if known is None or known[0] != _identity(file):
            known = self._looked_at[number] = (_identity(file), self.is_whole(shard))
        return known[1]

    def is_trusted(self, number: int) -> bool:
        """As `is_done`, but of the file only the header and the length are looked at: for a shard whose bytes
        another process is reading. While it stays as it is, `is_as_checked` says so."""
        shard = self.shard(number)
        try:
            file = shard.path.stat()
        except OSError:
            return False
        contents = read_contents(shard.path)
        if contents is None or contents[0] != shard.members:
            return False
        self._trusted[number] = _identity(file)
        return True

    def is_as_checked(self, number: int, file: os.stat_result) -> bool:
        """Say whether an open file of shard `number` is the one that was found whole, or is whole itself; for
        the price of a comparison, as long as nobody touches it."""
        identity = _identity(file)
        if self._looked_at.get(number) == (identity, True) or self._trusted.get(number) == identity:
            return True
        return self.is_done(number)

    @property
    def has_leftovers(self) -> bool:
        """Whether the folder holds anything that the plan does not have."""
        return bool(self._unplanned() or any(self.folder.glob(f"{PART_PREFIX}*")))

    def tidy(self) -> int:
        """Delete what killed writers left and what the plan no longer has; return how many shards that were.

        To be called when every planned shard is there. The part file of a writer that is at work may go too:
        `write` then writes again.
        """
        sweep_parts(self.folder)
        stale = self._unplanned()
        for path in stale:
            with suppress(OSError):  # another program has it open, on Windows: next time
                path.unlink()
        return len(stale)

    def _unplanned(self) -> list[Path]:
        found = [path for path in self.folder.glob("*.safetensors") if not path.name.startswith(PART_PREFIX)]
        if not found:
            return []
        planned = {shard.path.name for shard in self.shards}
        return [path for path in found if path.name not in planned]


def read_contents(path: Path) -> Contents | None:
    """Return what a shard's header says, and read no more.

    None: it is no shard. Whether its bytes are whole, `ShardStore.is_whole` says.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            header, begin = read_header(file)
        told = json.loads(header.pop("__metadata__")[_METADATA])
        ends = [tensor["data_offsets"][1] for tensor in header.values()]
        if size != begin + max(ends):
            return None
        return tuple(told["members"]), {name: tuple(tensor["shape"]) for name, tensor in header.items()}
    except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def partition(hashes: Iterable[str], per_shard: int = PICTURES_PER_SHARD) -> list[tuple[str, ...]]:
    """Group content hashes by as many leading bits as make groups of at most `per_shard` on average.

    Returns: the groups that are not empty, in order, each sorted; they depend on the set of hashes alone.
    """
    return list(Parts(DigestSet(hashes), per_shard))


def _identity(file: os.stat_result) -> tuple[int, int, int]:
    """What differs once a file was written to, or another took its place."""
    return file.st_size, file.st_mtime_ns, file.st_ino


def _starts(ordered: Digests, bits: int) -> NDArray[np.int64]:
    """Where a group begins whose members share their first `bits` bits, and where the last one ends."""
    if not len(ordered):
        return np.zeros(1, dtype=np.int64)
    first = np.ascontiguousarray(ordered.view(np.uint8).reshape(-1, 32)[:, :8]).view(">u8")[:, 0]
    groups = first.astype(np.uint64) >> np.uint64(64 - bits) if bits else np.zeros(len(ordered), np.uint64)
    changes = np.flatnonzero(groups[1:] != groups[:-1]) + 1
    return np.concatenate([[0], changes, [len(ordered)]]).astype(np.int64)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
