"""Which captions a person is shown, and what is told of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..captions.cleaning import FAULTS
from ..errors import DataError
from . import tables
from .review import Verdict, judged
from .samples import Sample, TrainingSet, caption_hash

_COLUMNS = ["id", "sha256", "caption", "origin", "faults", "draft", "blind_emotion", "blind_model", "review"]

SHOWN: dict[str, str] = {
    "unreviewed": "captions that nobody has looked at",
    "set-aside": "pictures whose caption was set aside",
    "disagree": "captions that alone say another emotion than the label",
    "lowest": "captions by their similarity, the lowest first",
    "all": "every picture",
}
"""What can be asked for, and what it is."""


class ReviewList:
    """The samples that are reviewed, in their order, with what the set's tables say of them.

    Fixed when it is made: a caption stays in its place when a verdict makes it another.
    """

    def __init__(self, of: TrainingSet, show: str = "unreviewed", emotion: str | None = None):
        """Raises: DataError for something else than SHOWN, an unknown emotion, or an unreadable table."""
        if show not in SHOWN:
            raise DataError(f"there is nothing called {show!r} to show: choose one of {', '.join(SHOWN)}.")
        if emotion is not None and emotion not in of.taxonomy.names:
            known = ", ".join(of.taxonomy.names)
            raise DataError(f"the set has no emotion {emotion!r}: choose one of {known}.")
        self._of = of
        self._rows = of.samples()
        self._ids = self._column("id")
        self._captions = self._beside("captions.parquet", tables.CAPTIONS, _COLUMNS)
        names = ["id", "sha256", "caption_sha256", "similarity"]
        self._similarities = self._beside("similarities.parquet", tables.SIMILARITIES, names)
        chosen = self._chosen(show)
        if emotion is not None:
            labels = pc.cast(self._column("emotion"), pa.string())
            chosen = chosen[_mask(pc.equal(labels, emotion))[chosen]]
        self._order = chosen

    def __len__(self) -> int:
        return len(self._order)

    def sample(self, position: int) -> tuple[Sample, dict[str, Any] | None]:
        """The sample at a place of the list, and its row of captions.parquet, None where it has none."""
        at = int(self._order[position])
        sample = self._rows[at]
        row = self._captions.slice(at, 1).to_pylist()[0]
        return sample, row if row["id"] is not None and row["sha256"] == sample.sha256 else None

    def picture(self, sample_id: str) -> Sample | None:
        """The sample with this id, in the list or not; None where the set has none."""
        at = pc.index(self._ids, pa.scalar(sample_id, pa.string())).as_py()
        return self._rows[at] if at >= 0 else None

    def item(self, position: int, verdict_of: Callable[[str], Verdict | None]) -> dict[str, Any]:
        """What the page shows of a place of the list, with the verdict that was given, as plain JSON."""
        sample, before = self.sample(position)
        verdict = verdict_of(sample.id)
        row: Mapping[str, Any] = (judged(before, verdict) if verdict is not None else before) or {}
        caption = row.get("caption") or ""
        return {
            "position": position,
            "id": sample.id,
            "emotion": sample.emotion,
            "split": sample.split,
            "caption": caption,
            "draft": row.get("draft") or "",
            "origin": row.get("origin"),
            "faults": [FAULTS.get(fault, fault) for fault in row.get("faults") or ()],
            "says": row.get("blind_emotion"),
            "similarity": self._similarity(position, sample, caption),
            "dropped": not sample.kept and verdict is None,
            "review": row.get("review"),
            "given": verdict is not None,
        }

    def _similarity(self, position: int, sample: Sample, caption: str) -> float | None:
        """How well the caption fits, where it is this one that was compared."""
        row = self._similarities.slice(int(self._order[position]), 1).to_pylist()[0]
        same = row["sha256"] == sample.sha256 and row["caption_sha256"] == caption_hash(caption)
        return row["similarity"] if same else None

    def _beside(self, name: str, schema: pa.Schema, columns: list[str]) -> pa.Table:
        """The rows of another table of the set in the samples' order; null where a sample has none."""
        table = tables.arrow_table(self._of.root / name, schema, columns)
        return table.take(pc.index_in(self._ids, value_set=table["id"].combine_chunks())).combine_chunks()

    def _chosen(self, show: str) -> np.ndarray:
        """The rows of the set that are shown, in their order."""
        table = self._captions
        same = _mask(pc.equal(table["sha256"], self._column("sha256")))
        told = _mask(pc.not_equal(table["caption"], "")) & same
        review = _mask(pc.is_in(table["review"], value_set=pa.array(["accepted", "mended", "rejected"])))
        if show == "unreviewed":
            return np.flatnonzero(same & ~review)
        if show == "set-aside":
            return np.flatnonzero(same & ~told & ~review)
        if show == "disagree":
            names = pa.array(self._of.taxonomy.names, pa.string())
            said = _mask(pc.is_in(table["blind_emotion"], value_set=names))
            other = _mask(pc.not_equal(table["blind_emotion"], pc.cast(self._column("emotion"), pa.string())))
            return np.flatnonzero(told & said & other)
        if show == "lowest":
            values = pc.fill_null(self._similarities["similarity"], np.inf).to_numpy()
            fits = told & np.isfinite(values) & self._compared(told)
            scored = np.flatnonzero(fits)
            return scored[np.argsort(values[scored], kind="stable")]
        return np.arange(len(self._rows))

    def _compared(self, told: np.ndarray) -> np.ndarray:
        """[n] bool: the similarity is of the caption as it is now."""
        found = np.zeros(len(told), dtype=bool)
        for at in np.flatnonzero(told):
            row = int(at)
            digest = self._similarities["caption_sha256"][row].as_py()
            found[row] = digest == caption_hash(self._captions["caption"][row].as_py())
        return found

    def _column(self, name: str) -> Any:
        return self._rows.columns(name)[name]


def _mask(values: Any) -> np.ndarray:
    """[n] bool; null is False."""
    return np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False), dtype=bool)
