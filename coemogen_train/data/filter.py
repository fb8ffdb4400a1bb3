"""The paper's filter: of each emotion the fifth of the pairs whose captions fit worst is dropped."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import Any

import numpy as np

from ..errors import DataError
from ..files import atomic_write_text, canonical_json
from .cache import CacheOptions
from .filter_page import FilterFindings, filter_page
from .filter_report import EmotionVerdict, FilterReport, verdicts_of
from .pairs import Pairs
from .prepare import Progress
from .samples import TrainingSet
from .sharedwork import ALONE, Crew, SharedWork
from .similarity import PairEncoder, ScoreParts, fingerprint

__all__ = ["PAGE", "TRIAL_PAGE", "EmotionVerdict", "FilterReport", "filter_set", "worst"]

_COLUMN = "column "
PAGE, TRIAL_PAGE = "filter.html", "filter-dry-run.html"


def filter_set(
    of: TrainingSet,
    drop: float = 0.2,
    clip: PairEncoder | None = None,
    dry_run: bool = False,
    options: CacheOptions = CacheOptions(),  # noqa: B008 - frozen
    progress: Progress | None = None,
    column: str | None = None,
    agree: bool = False,
    crew: Crew = ALONE,
) -> FilterReport:
    """Mark the worst fitting pairs of each emotion as not kept; `drop` 0 keeps all, verdicts are made anew.

    The filter judges the captioned samples of the train split, and leaves SET/filter.html, by which a person
    judges it.

    Args:
        drop: share per emotion, from 0 to below 1.
        clip: gives similarities where one is missing or of another encoder; None: the set must have them all.
        dry_run: report only, write nothing but the cache and filter-dry-run.html.
        column: similarities that the source brought, by the name of the samples' attribute, instead of a
            CLIP's.
        agree: first drop the pairs whose sentence alone says another emotion than the label; `drop` is a
            share of the others.
        crew: the processes that share the work.

    Raises:
        DataError: an impossible share, missing captions, similarities or blind verdicts, pictures as
            `build_cache`, or similarities that are not finite.
    """
    if not 0 <= drop < 1:
        raise DataError(f"a share of {drop} cannot be dropped: choose one from 0 to below 1, such as 0.2.")
    if clip is not None and column is not None:
        raise DataError("similarities come from a column or from a CLIP: leave out --column or --vision.")
    pairs = Pairs.read(of)
    blind = pairs.blind() if agree else None
    scores = _scores(pairs, clip, column, options, progress, crew)
    asked = None if blind is None else hashlib.sha256(blind.tobytes()).hexdigest()
    told = canonical_json([drop, dry_run, scores.encoder, pairs.digest, asked])
    plan = hashlib.sha256(told.encode()).hexdigest()
    compared = 0

    def finish() -> dict[str, Any]:
        return _finish(pairs, scores, drop, blind, dry_run).to_dict()

    def on_done(part: int) -> None:
        nonlocal compared
        if progress is not None and scores.parts is not None:
            compared += scores.parts.size(part)
            progress("comparing captions", compared, len(pairs))

    work = SharedWork(of.work_folder("filter"), plan, crew)
    if scores.parts is None:
        answer = work.run(0, lambda _: True, lambda _: None, finish)
    else:
        answer = work.run(len(scores.parts), scores.parts.is_done, scores.parts.do, finish, on_done)
    of.reload()
    return FilterReport.from_dict(answer)


def worst(emotions: np.ndarray, similarities: np.ndarray, drop: float) -> np.ndarray:
    """Which pairs to drop: per emotion the floor(drop * n) of lowest similarity, ties by place. [n] bool

    emotions: [n] integers, negative for pairs that are not judged. similarities: [n], sorted by sample id.
    The product is exact in the decimal digits of `drop`: 0.29 of 100 are 29, which binary fractions make 28.
    """
    share = Fraction(str(drop))
    losers = np.zeros(len(emotions), dtype=bool)
    for emotion in np.unique(emotions[emotions >= 0]):
        own = np.flatnonzero(emotions == emotion)
        order = np.argsort(similarities[own], kind="stable")
        losers[own[order[: floor(share * len(own))]]] = True
    return losers


@dataclass(frozen=True)
class _Scores:
    """Where similarities come from. values: [n], where they are known; else `parts` computes them."""

    encoder: str
    values: np.ndarray | None = None
    parts: ScoreParts | None = None

    def all(self) -> np.ndarray:
        """[n] float64, once every part is done."""
        if self.values is not None:
            return self.values
        assert self.parts is not None  # noqa: S101 - one of the two is there
        return self.parts.collect()


def _scores(
    pairs: Pairs,
    clip: PairEncoder | None,
    column: str | None,
    options: CacheOptions,
    progress: Progress | None,
    crew: Crew,
) -> _Scores:
    if column is not None:
        return _Scores(f"{_COLUMN}{column}", pairs.attribute(column))
    stored = pairs.stored(None if clip is None else fingerprint(clip))
    if stored is not None and stored[1].startswith(_COLUMN):
        # The source may have other numbers by now.
        return _Scores(stored[1], pairs.attribute(stored[1].removeprefix(_COLUMN)))
    if stored is not None:
        return _Scores(stored[1], stored[0])
    if clip is None:
        raise DataError(
            f"captions in {pairs.of.root} have no similarity yet: name a CLIP model with --vision."
        )
    return _Scores(fingerprint(clip), parts=ScoreParts(pairs, clip, options, progress, crew))


def _finish(
    pairs: Pairs, scores: _Scores, drop: float, blind: np.ndarray | None, dry_run: bool
) -> FilterReport:
    """From similarities to verdicts, in the set's table and on the page."""
    of = pairs.of
    similarities = scores.all()
    # Where a sentence is unclear about its emotion, it does not disagree.
    disagreed = (
        np.zeros(len(pairs), dtype=bool) if blind is None else (blind >= 0) & (blind != pairs.emotions)
    )
    dropped = worst(np.where(disagreed, -1, pairs.emotions), similarities, drop)
    counts = verdicts_of(of.taxonomy.names, pairs.emotions, similarities, dropped, disagreed)
    uncaptioned = len(of.samples("train")) - len(pairs)
    report = FilterReport(drop, counts, uncaptioned, scores.encoder)
    page = filter_page(FilterFindings(pairs, similarities, dropped, disagreed, blind, report, dry_run))
    if not dry_run:
        kept = ~(dropped | disagreed)
        of.write_similarities(pairs.similarity_rows(similarities, kept, scores.encoder))
    atomic_write_text(of.root / (TRIAL_PAGE if dry_run else PAGE), page)
    return report
