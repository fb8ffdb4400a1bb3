"""The pairs that the filter judges, picture and caption, as columns instead of objects."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import DataError
from . import tables
from .report import printable
from .samples import SampleRows, TrainingSet, caption_hash

_AT_ONCE = 8192
_HEX = "S64"
# Cosines stay within 1, and logits and percentages within hundreds.
_LARGEST = 1e6


@dataclass(frozen=True, eq=False)
class Pairs:
    """The captioned samples of the train split, sorted by id: n of them.

    Pictures held out for measuring are not thinned out, or the measure would be of an easier set.

    Attributes:
        emotions: [n] int64, places in the taxonomy.
        pictures, captions: [n] content hashes as hexadecimal bytes.
    """

    of: TrainingSet
    rows: SampleRows
    emotions: np.ndarray
    pictures: np.ndarray
    captions: np.ndarray

    @classmethod
    def read(cls, of: TrainingSet) -> Pairs:
        """Read those of a set. Raises: DataError where there are none."""
        rows = of.samples("train").captioned()
        if not rows:
            raise DataError(
                f"no training picture of {of.root} has a caption: caption the set before filtering it."
            )
        names = pa.array(of.taxonomy.names, pa.string())
        emotions, pictures, captions = [], [], []
        for table in _chunks(rows, "emotion", "sha256", "caption"):
            label = pc.cast(table["emotion"], pa.string())
            emotions.append(pc.fill_null(pc.index_in(label, value_set=names), -1).to_numpy())
            pictures.append(_hashes(table["sha256"]))
            captions.append(np.array([caption_hash(c) for c in table["caption"].to_pylist()], _HEX))
        joined = (np.concatenate(column) for column in (emotions, pictures, captions))
        return cls(of, rows, *joined)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def digest(self) -> str:
        """Differs where any picture, caption or label does."""
        digest = hashlib.sha256()
        for column in (self.emotions.astype("<i8"), self.pictures, self.captions):
            digest.update(column.tobytes())
        return digest.hexdigest()

    def attribute(self, name: str) -> np.ndarray:
        """An attribute of the samples as numbers, [n] float64.

        Raises: DataError where it is missing, no finite number, or beyond anything that a similarity can be.
        """
        values = np.empty(len(self))
        wrong: list[str] = []
        at = 0
        for table in _chunks(self.rows, "id", "attributes"):
            for key, text in zip(table["id"].to_pylist(), table["attributes"].to_pylist(), strict=True):
                values[at] = _number(json.loads(text).get(name))
                if math.isnan(values[at]):
                    wrong.append(key)
                at += 1
        if wrong:
            raise DataError(
                f"the column {printable(name)!r} holds no number for {len(wrong)} of {len(self)} captioned "
                f"pictures of {self.of.root}, the first is {printable(wrong[0])!r}: name another column, or "
                "let a CLIP compare them with --vision."
            )
        largest = int(np.abs(values).argmax())
        if abs(values[largest]) > _LARGEST:
            key = self.rows[largest].id
            raise DataError(
                f"the column {printable(name)!r} holds {values[largest]:g} for {printable(key)!r} in "
                f"{self.of.root}, which is no similarity (beyond {_LARGEST:g}): name another column, or "
                "correct the source and prepare the set again."
            )
        return values

    def stored(self, encoder: str | None) -> tuple[np.ndarray, str] | None:
        """The similarities that the set has, [n] float64, and what gave them.

        None: some pair has none, as it is now; or not by `encoder`, where one is named.
        """
        path = self.of.root / "similarities.parquet"
        table = tables.arrow_table(path, tables.SIMILARITIES, ["id", "similarity"])
        ids = table["id"].combine_chunks()
        places = pc.index_in(self.rows.columns("id")["id"].combine_chunks(), value_set=ids)
        if len(ids) == 0 or places.null_count:
            return None
        encoders = pc.unique(self._column(path, "encoder", places)).to_pylist()
        if len(encoders) != 1 or encoder not in (None, encoders[0]):
            return None
        for name, expected in (("sha256", self.pictures), ("caption_sha256", self.captions)):
            column, at = self._column(path, name, places), 0
            while at < len(self):
                part = _hashes(column.slice(at, _AT_ONCE))
                if (part != expected[at : at + _AT_ONCE]).any():
                    return None
                at += _AT_ONCE
        return table["similarity"].take(places).to_numpy(), str(encoders[0])

    def _column(self, path: Path, name: str, places: pa.Array) -> pa.ChunkedArray:
        """A column of a table of similarities, one row per pair."""
        return tables.arrow_table(path, tables.SIMILARITIES, [name])[name].take(places)

    def blind(self) -> np.ndarray:
        """Which emotion a model saw in each sentence alone: [n] int64, places in the taxonomy, -1 unclear.

        Raises: DataError where no caption was asked about.
        """
        path = self.of.root / "captions.parquet"
        table = tables.arrow_table(path, tables.CAPTIONS, ["id", "blind_emotion"])
        keys = self.rows.columns("id")["id"]
        said = table["blind_emotion"].take(pc.index_in(keys, value_set=table["id"].combine_chunks()))
        if said.null_count == len(said):
            raise DataError(
                f"no caption of {self.of.root} was judged blind, so there is nothing to agree with: let "
                "`caption` make its blind second pass first."
            )
        names = pa.array(self.of.taxonomy.names, pa.string())
        return pc.fill_null(pc.index_in(said, value_set=names), -1).to_numpy().astype(np.int64)

    def similarity_rows(
        self, similarities: np.ndarray, kept: np.ndarray, encoder: str
    ) -> Iterator[dict[str, Any]]:
        """The rows of similarities.parquet, in their order."""
        at = 0
        for table in _chunks(self.rows, "id", "emotion"):
            for key, emotion in zip(table["id"].to_pylist(), table["emotion"].to_pylist(), strict=True):
                yield {
                    "id": key,
                    "sha256": self.pictures[at].decode("ascii"),
                    "caption_sha256": self.captions[at].decode("ascii"),
                    "emotion": emotion,
                    "similarity": float(similarities[at]),
                    "encoder": encoder,
                    "kept": bool(kept[at]),
                }
                at += 1


def _chunks(rows: SampleRows, *columns: str) -> Iterator[pa.Table]:
    for start in range(0, len(rows), _AT_ONCE):
        yield rows[start : start + _AT_ONCE].columns(*columns)


def _hashes(column: pa.ChunkedArray) -> np.ndarray:
    return np.array(column.to_pylist(), dtype=_HEX)


def _number(text: str | None) -> float:
    """NaN for whatever is no finite number."""
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
