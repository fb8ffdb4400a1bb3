"""From what raters said to preferences, agreement and an order, and who of them counts.

How sure the figures are, and of what kind their intervals: `resampling`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import DataError
from .answers import Judgement, Rater
from .key import StudyKey
from .resampling import ALL, Answers
from .results import Dropped, StudyScore

RESAMPLES = 2000
_HASTY = 1.0
_FEW = 5


def score_study(
    key: StudyKey,
    raters: Sequence[Rater],
    *,
    allowed_failures: int = 0,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> StudyScore:
    """Score a study.

    allowed_failures: attention checks that a rater may fail and still count.

    Raises: DataError when nobody is left.
    """
    kept, dropped = _attentive(raters, sum(trial.check != "" for trial in key.trials), allowed_failures)
    judgements = [judgement for rater in kept for judgement in rater.judgements]
    if not judgements:
        raise DataError(
            f"nobody's answers are left of {len(raters)} raters: all answered nothing, or failed the "
            "attention checks."
        )
    data = Answers.of(judgements, key.methods, np.random.default_rng(seed), resamples)
    asked = [question.name for question in key.questions]
    questions = [name for name in asked if data.about(name).any()]
    if len(questions) > 1:
        questions.append(ALL)
    return StudyScore(
        study=key.study,
        raters=len(kept),
        dropped=tuple(dropped),
        answers=len(judgements),
        preferences=tuple(preference for name in questions for preference in data.preferences(name)),
        order={name: data.order(name) for name in questions},
        agreement=tuple(data.agreement(name) for name in questions if name != ALL),
        side_a=_side_a(judgements),
        notes=tuple(_notes(kept)),
    )


def _attentive(raters: Sequence[Rater], checks: int, allowed: int) -> tuple[list[Rater], list[Dropped]]:
    """Those who count, and those who do not. checks: that whoever got to the end has met."""
    kept, dropped = [], []
    for rater in raters:
        skipped = checks - rater.checks if rater.finished else 0
        reason = ""
        if not rater.judgements:
            reason = "answered nothing"
        elif checks and not rater.checks:
            reason = "met no attention check"
        elif rater.failed + skipped > allowed:
            reason = f"failed {rater.failed + skipped} of {rater.checks + skipped} attention checks"
        if reason:
            dropped.append(Dropped(rater.id, rater.file.name, reason))
        else:
            kept.append(rater)
    return kept, dropped


def _side_a(judgements: Sequence[Judgement]) -> float | None:
    chosen = [(j.preference == 1.0) == j.shown_first for j in judgements if j.preference != 0.5]
    return float(np.mean(chosen)) if chosen else None


def _notes(raters: Sequence[Rater]) -> list[str]:
    notes = []
    if unfinished := sum(not rater.finished for rater in raters):
        notes.append(f"{unfinished} raters stopped before the end; what they said until then counts.")
    if hasty := sum(rater.seconds < _HASTY for rater in raters):
        notes.append(f"{hasty} raters took less than {_HASTY:g} second for most answers, and count.")
    if len(raters) < 2:
        notes.append("With one rater the intervals are over pictures alone.")
    elif len(raters) < _FEW:
        notes.append(f"{len(raters)} raters say little of what others would say; ask more of them.")
    return notes
