"""Finished work, kept by what it depends on: a fit, a sheet of pictures, what the instruments saw of them.

    OUT/cells/<kind>-<key>/            one cell; <key> is a hash of everything that its content depends on
    OUT/cells/<kind>-<key>/depends.json   what that was, for people
    OUT/cells/<kind>-<key>/done.json      written last: without it the cell is work in hand

Rows of several experiments share the cells that they have in common, an interrupted comparison goes on where
it was, and several processes divide the cells among themselves.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ...files import atomic_write_text, canonical_json

_DEPENDS, _DONE = "depends.json", "done.json"
_KEY = 20


@dataclass(frozen=True)
class Cell:
    """A folder for one piece of work, and what the work depends on."""

    folder: Path
    depends: Mapping[str, Any]

    @property
    def key(self) -> str:
        """By which later cells name this one among what they depend on."""
        return self.folder.name

    @property
    def done(self) -> bool:
        """Whether the work is finished."""
        return (self.folder / _DONE).exists()

    @contextmanager
    def claimed(self) -> Iterator[bool]:
        """Hold the cell for the length of the block; gives False where another process has it."""
        locks = self.folder.parent / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / f"{self.key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            atomic_write_text(self.folder / _DEPENDS, json.dumps(self.depends, indent=1, sort_keys=True))
            yield True
        finally:
            lock.release()

    def finish(self, **facts: Any) -> None:
        """Say that the work is done, with what there is to tell of it."""
        atomic_write_text(self.folder / _DONE, json.dumps(facts, indent=1, sort_keys=True) + "\n")

    def facts(self) -> dict[str, Any]:
        """What `finish` was told."""
        told: dict[str, Any] = json.loads((self.folder / _DONE).read_text(encoding="utf-8"))
        return told


class Cells:
    """All cells under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def cell(self, kind: str, **depends: Any) -> Cell:
        """The cell of that kind of work for what it depends on, JSON values all; finished or not."""
        key = hashlib.sha256(canonical_json({"kind": kind, **depends}).encode("utf-8")).hexdigest()[:_KEY]
        return Cell(self.root / f"{kind}-{key}", depends)
