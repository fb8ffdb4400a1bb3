"""Tensors per picture, in files of about a hundred pictures: how they are divided, written, checked and read.

A shard holds the pictures whose content hash begins with the same bits, in the order of the hashes. So what
is in a
shard, and in which batches it was computed, follows from the set alone: not from names, from what an
interrupted run had finished, or from how many processes work. A shard is written whole or not at all, and a
damaged one is redone whole. A picture that comes or goes touches one shard.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save_file
from torch import Tensor

from ..files import atomic_path, canonical_json

FORMAT_VERSION = 1
PICTURES_PER_SHARD = 128
"""A shard holds this many pictures or fewer, on average between half of them and all."""

_METADATA = "coemogen_cache"


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
    shards: tuple[Shard, ...]

    @classmethod
    def plan(cls, cache: Path, kind: str, key: Mapping[str, Any], hashes: Iterable[str]) -> ShardStore:
        """Lay out the shards of pictures with these content hashes (64 hexadecimal digits each)."""
        full_key = {"kind": kind, "format_version": FORMAT_VERSION, **key}
        folder = cache / f"{kind}-{_digest(canonical_json(full_key))}"
        groups = partition(hashes)
        width = len(str(len(groups)))
        shards = tuple(
            Shard(
                folder / f"{number:0{width}d}-of-{len(groups)}-{_digest(''.join(members))}.safetensors",
                members,
            )
            for number, members in enumerate(groups, start=1)
        )
        return cls(folder, full_key, shards)

    def write(self, shard: Shard, tensors: Mapping[str, Tensor]) -> None:
        """Write a shard atomically. tensors: each [len(members), ...]; equal values are equal bytes."""
        whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
        # One metadata key only: the library writes several in random order.
        header = canonical_json({"key": self.key, "members": shard.members, "sha256": _checksum(whole)})
        with atomic_path(shard.path) as part:
            save_file(whole, part, metadata={_METADATA: header})

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

    def remove_unplanned(self) -> int:
        """Delete shards in the folder that the plan no longer has, and return how many they were."""
        planned = {shard.path.name for shard in self.shards}
        stale = [path for path in self.folder.glob("*.safetensors") if path.name not in planned]
        for path in stale:
            path.unlink(missing_ok=True)
        return len(stale)


class ShardReader:
    """Random access to the rows of a store's shards, mapped from the disk or held in memory."""

    def __init__(self, store: ShardStore, memory_limit: int):
        """memory_limit: in bytes; a store of at most this size is read into memory, others are mapped."""
        self._store = store
        self._place = {
            digest: (number, row)
            for number, shard in enumerate(store.shards)
            for row, digest in enumerate(shard.members)
        }
        size = sum(shard.path.stat().st_size for shard in store.shards)
        self.in_memory = size <= memory_limit
        self._open: dict[int, dict[str, Tensor]] = {}

    def __contains__(self, digest: str) -> bool:
        return digest in self._place

    def hold(self) -> None:
        """Read everything into memory now."""
        self.in_memory = True
        self._open = {number: self._read(shard) for number, shard in enumerate(self._store.shards)}

    def row(self, digest: str, name: str) -> Tensor:
        """Return the row of tensor `name` that belongs to a content hash, no copy. Raises: KeyError."""
        number, row = self._place[digest]
        tensors = self._open.get(number)
        if tensors is None:
            tensors = self._open[number] = self._read(self._store.shards[number])
        return tensors[name][row]

    def _read(self, shard: Shard) -> dict[str, Tensor]:
        if self.in_memory:
            return load(shard.path.read_bytes())
        with safe_open(shard.path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping


def read_contents(path: Path) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]]] | None:
    """Return a shard's content hashes and, by name, its tensors' shapes from its header alone.

    None: it is no shard. Whether its bytes are whole, `ShardStore.is_whole` says.
    """
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            return tuple(json.loads(file.metadata()[_METADATA])["members"]), shapes
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        return None


def partition(hashes: Iterable[str], per_shard: int = PICTURES_PER_SHARD) -> list[tuple[str, ...]]:
    """Group content hashes by as many leading bits as make groups of at most `per_shard` on average.

    Returns: the groups that are not empty, in order, each sorted; they depend on the set of hashes alone.
    """
    ordered = sorted(set(hashes))
    bits = 0
    while len(ordered) > per_shard << bits:
        bits += 1
    groups: dict[int, list[str]] = {}
    for digest in ordered:
        groups.setdefault(int(digest[:16], 16) >> (64 - bits), []).append(digest)
    return [tuple(group) for _, group in sorted(groups.items())]


def batches(members: Sequence[str], size: int) -> list[Sequence[str]]:
    """Cut a shard's members into runs of `size`, the last one shorter."""
    return [members[start : start + size] for start in range(0, len(members), size)]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
