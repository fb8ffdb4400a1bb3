"""The samples of a set as a sequence that makes each `Sample` when it is asked for.

A hundred thousand samples as objects would fill hundreds of megabytes; as Arrow columns they take a few
dozen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from . import tables

Split = Literal["train", "val", "test"]
_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """One usable picture of a set.

    id: unique in the set, never changes. image: absolute path. sha256: of the file's bytes, 64 hexadecimal
    digits.
    width, height: of the upright picture. objects: names, may be empty. kept: False if the filter dropped it.
    attributes: whatever else the source said of it, as strings.
    """

    id: str
    image: Path
    emotion: str
    split: Split
    sha256: str
    width: int
    height: int
    caption: str | None = None
    scene: str | None = None
    objects: tuple[str, ...] = ()
    kept: bool = True
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)


class SampleRows(Sequence[Sample]):
    """Samples, sorted by id. Iterating makes them a thousand at a time; `columns` reads without making
    any."""

    def __init__(self, table: pa.Table, base: Path, chosen: np.ndarray | None = None):
        """table: tables.SAMPLES with caption and kept. chosen: row numbers, int64; None: all."""
        self._table, self._base = table, base
        self._chosen = np.arange(len(table)) if chosen is None else chosen

    def __len__(self) -> int:
        return len(self._chosen)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> SampleRows: ...
    def __getitem__(self, index: int | slice) -> Sample | SampleRows:
        if isinstance(index, slice):
            return SampleRows(self._table, self._base, self._chosen[index])
        row = int(self._chosen[index])
        return _sample(self._table.slice(row, 1).to_pylist()[0], self._base)

    def __iter__(self) -> Iterator[Sample]:
        for start in range(0, len(self), _AT_ONCE):
            rows = self._table.take(self._chosen[start : start + _AT_ONCE])
            for row in rows.to_pylist():
                yield _sample(row, self._base)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (SampleRows, list)):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # it compares by its content, as a list does

    def where(self, split: str | None = None, kept_only: bool = False) -> SampleRows:
        """Those of a split (None: all); `kept_only`: without what the filter dropped."""
        mask = np.ones(len(self), dtype=bool)
        if split is not None:
            mask &= self._mask(pc.equal(self._table["split"], split))
        if kept_only:
            mask &= self._mask(self._table["kept"])
        return self if mask.all() else self.masked(mask)

    def captioned(self) -> SampleRows:
        """Those with a caption."""
        return self.masked(self._mask(pc.is_valid(self._table["caption"])))

    def masked(self, mask: np.ndarray) -> SampleRows:
        """Those where `mask` [len(self)] is true."""
        return SampleRows(self._table, self._base, self._chosen[mask])

    def columns(self, *names: str) -> pa.Table:
        """Some columns of these samples, such as "id" and "emotion"; emotion, split and scene are
        dictionaries."""
        return self._table.select(names).take(self._chosen)

    def pieces(self, *names: str) -> Iterator[list[dict[str, Any]]]:
        """Some columns of these samples as rows, a thousand at a time; a third of the time of `Sample`s."""
        for start in range(0, len(self), _AT_ONCE):
            yield self[start : start + _AT_ONCE].columns(*names).to_pylist()

    def _mask(self, values: Any) -> np.ndarray:
        return np.asarray(values.to_numpy(zero_copy_only=False), dtype=bool)[self._chosen]


def read_rows(root: Path, base: Path) -> SampleRows:
    """Read the samples of the set in `root` with their captions and the filter's verdicts.

    base: the folder that relative image paths start from. Raises: DataError.
    """
    table = tables.arrow_table(root / "samples.parquet", tables.SAMPLES, tables.SAMPLES.names)
    captions = _beside(table, root / "captions.parquet", tables.CAPTIONS, ["sha256", "caption"])
    caption = pc.if_else(
        pc.and_(pc.equal(captions["sha256"], table["sha256"]), pc.not_equal(captions["caption"], "")),
        captions["caption"],
        pa.scalar(None, pa.string()),
    )
    columns = ["sha256", "caption_sha256", "emotion", "kept"]
    verdicts = _beside(table, root / "similarities.parquet", tables.SIMILARITIES, columns)
    kept = _kept(table, caption, verdicts)
    for name in ("emotion", "split", "scene"):
        at = table.column_names.index(name)
        table = table.set_column(at, name, table[name].dictionary_encode())
    table = table.append_column("caption", caption).append_column("kept", pa.array(kept))
    return SampleRows(table.combine_chunks(), base)


def caption_hash(caption: str) -> str:
    """Return the SHA-256 of a caption: by it a similarity knows which caption it belongs to."""
    return hashlib.sha256(caption.encode("utf-8")).hexdigest()


def side_by_side(
    first: Iterable[dict[str, Any]], second: Iterable[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any] | None, dict[str, Any] | None]]:
    """Walk through two tables sorted by id: rows of equal id together, None where one has no such row."""
    left, right = iter(first), iter(second)
    a, b = next(left, None), next(right, None)
    while a is not None or b is not None:
        if b is None or (a is not None and a["id"] < b["id"]):
            yield a, None
            a = next(left, None)
        elif a is None or b["id"] < a["id"]:
            yield None, b
            b = next(right, None)
        else:
            yield a, b
            a, b = next(left, None), next(right, None)


def _beside(samples: pa.Table, path: Path, schema: pa.Schema, columns: list[str]) -> pa.Table:
    """The rows of another table of the set that belong to the samples, in their order; null where none
    does."""
    other = tables.arrow_table(path, schema, ["id", *columns])
    places = pc.index_in(samples["id"], value_set=other["id"].combine_chunks())
    return other.select(columns).take(places)


def _kept(samples: pa.Table, caption: Any, verdicts: pa.Table) -> np.ndarray:
    """[n] bool: False where the filter dropped this very picture with this very caption and label."""
    dropped = pc.and_(pc.equal(verdicts["kept"], False), pc.equal(verdicts["sha256"], samples["sha256"]))
    # It was compared with pictures of its emotion: of a corrected label that says nothing.
    dropped = pc.and_(dropped, pc.equal(verdicts["emotion"], samples["emotion"]))
    dropped = pc.fill_null(pc.and_(dropped, pc.is_valid(caption)), False)
    kept = np.ones(len(samples), dtype=bool)
    for row in np.flatnonzero(dropped.to_numpy(zero_copy_only=False)).tolist():
        kept[row] = verdicts["caption_sha256"][row].as_py() != caption_hash(caption[row].as_py())
    return kept


def _sample(row: dict[str, Any], base: Path) -> Sample:
    return Sample(
        id=row["id"],
        image=base / row["image"],
        emotion=row["emotion"],
        split=row["split"],
        sha256=row["sha256"],
        width=row["width"],
        height=row["height"],
        caption=row["caption"],
        scene=row["scene"],
        objects=tuple(row["objects"]),
        kept=row["kept"],
        attributes=json.loads(row["attributes"]),
    )
