"""The paper's filter: of each emotion the fifth of the pairs whose captions fit worst is dropped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .cache import CacheOptions
from .prepare import Progress
from .samples import TrainingSet, caption_hash
from .similarity import PairEncoder, captioned, score_similarities

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class EmotionVerdict:
    """What the filter did to one emotion. lowest_kept, mean: similarities, None where there are none."""

    scored: int
    dropped: int
    lowest_kept: float | None
    mean: float | None


@dataclass(frozen=True)
class FilterReport:
    """What the filter did. uncaptioned: training pictures without a caption, which it keeps unjudged."""

    drop: float
    emotions: dict[str, EmotionVerdict]
    uncaptioned: int

    @property
    def scored(self) -> int:
        """Pairs that were judged."""
        return sum(verdict.scored for verdict in self.emotions.values())

    @property
    def dropped(self) -> int:
        """Pairs that training will not see."""
        return sum(verdict.dropped for verdict in self.emotions.values())

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        emotions = {name: asdict(verdict) for name, verdict in self.emotions.items()}
        totals = {"scored": self.scored, "dropped": self.dropped, "kept": self.scored - self.dropped}
        return {"drop": self.drop, **totals, "uncaptioned": self.uncaptioned, "emotions": emotions}

    def tables(self) -> list[Table]:
        """The report as a rich table."""
        from rich.table import Table
        from rich.text import Text

        table = Table(
            title=f"{self.dropped} of {self.scored} pairs dropped, {self.uncaptioned} without a caption kept"
        )
        table.add_column("emotion")
        for name in ("scored", "dropped", "lowest kept", "mean"):
            table.add_column(name, justify="right")
        for emotion, verdict in self.emotions.items():
            numbers = ("-" if n is None else f"{n:.4f}" for n in (verdict.lowest_kept, verdict.mean))
            table.add_row(Text(emotion), str(verdict.scored), str(verdict.dropped), *numbers)
        return [table]


def filter_set(
    of: TrainingSet,
    drop: float = 0.2,
    clip: PairEncoder | None = None,
    dry_run: bool = False,
    options: CacheOptions = CacheOptions(),  # noqa: B008 - frozen
    progress: Progress | None = None,
) -> FilterReport:
    """Mark the worst fitting pairs of each emotion as not kept; `drop` 0 keeps all, verdicts are made anew.

    The filter judges the captioned samples of the train split.
    drop: share per emotion, from 0 to below 1.
    clip: gives similarities where one is missing or of another encoder; None: the set must have them all.
    dry_run: report only, write nothing but the cache of embeddings.
    Raises: DataError for an impossible share, missing captions or similarities, and as `score_similarities`.
    """
    if not 0 <= drop < 1:
        raise DataError(f"a share of {drop} cannot be dropped: choose one from 0 to below 1, such as 0.2.")
    if not captioned(of):
        raise DataError(
            f"no training picture of {of.root} has a caption: caption the set before filtering it."
        )
    rows = _valid_rows(of, clip)
    if rows is None:
        if clip is None:
            raise DataError(f"captions in {of.root} have no similarity yet: name a CLIP model with --vision.")
        rows = score_similarities(of, clip, options, progress)
    losers = worst(rows, drop)
    rows = [{**row, "kept": row["id"] not in losers} for row in rows]
    if not dry_run:
        of.write_similarities(rows)
    uncaptioned = len(of.samples("train")) - len(rows)
    return FilterReport(drop, _verdicts(rows, of.taxonomy.names), uncaptioned)


def worst(rows: Iterable[Mapping[str, Any]], drop: float) -> set[str]:
    """Return the ids to drop: per emotion the floor(drop * n) with the lowest similarity, ties by id.

    The product is exact in the decimal digits of `drop`: 0.29 of 100 are 29, which binary fractions make 28.
    """
    by_emotion: dict[str, list[tuple[float, str]]] = {}
    for row in rows:
        by_emotion.setdefault(row["emotion"], []).append((row["similarity"], row["id"]))
    share = Fraction(str(drop))
    return {key for pairs in by_emotion.values() for _, key in sorted(pairs)[: floor(share * len(pairs))]}


def _valid_rows(of: TrainingSet, clip: PairEncoder | None) -> list[dict[str, Any]] | None:
    """Return the set's similarities if every caption has one, as it reads now and by this encoder."""
    stored = {row["id"]: row for row in of.similarity_rows()}
    rows = []
    for sample in captioned(of):
        row = stored.get(sample.id)
        if (
            row is None
            or row["sha256"] != sample.sha256
            or row["caption_sha256"] != caption_hash(str(sample.caption))
        ):
            return None
        if clip is not None and row["encoder"] != clip.fingerprint:
            return None
        # The label may have been corrected since.
        rows.append({**row, "emotion": sample.emotion})
    return rows


def _verdicts(rows: list[dict[str, Any]], names: Iterable[str]) -> dict[str, EmotionVerdict]:
    verdicts = {}
    for name in names:
        scores = [row["similarity"] for row in rows if row["emotion"] == name]
        kept = [row["similarity"] for row in rows if row["emotion"] == name and row["kept"]]
        mean = sum(scores) / len(scores) if scores else None
        verdicts[name] = EmotionVerdict(len(scores), len(scores) - len(kept), min(kept, default=None), mean)
    return verdicts
