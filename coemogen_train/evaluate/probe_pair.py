"""Two probes of one set beside each other, and probes across sets: how far their figures may be believed.

A probe that is right on its own held-out pictures may read the habits of one data set. Two probes on
different backbones that agree, and a probe that is right on a set it has never seen, read more than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.prepare import Progress
from ..data.samples import TrainingSet
from ..errors import DataError
from .backbones import PictureEncoder
from .intervals import Interval, bootstrap_mean
from .metrics import correct
from .probe_training import HELD_OUT, ProbeReport, Scored, check_probe, train_probe


@dataclass(frozen=True)
class Agreement:
    """What two probes say of the same pictures.

    share: of pictures of which both say the same, with its interval. kappa: Cohen's, the agreement beyond
    chance, 1 at most; None where both always say one and the same. both_right, both_wrong: shares of all; in
    `both_wrong` they may name different emotions.
    """

    share: Interval
    kappa: float | None
    both_right: float
    both_wrong: float
    pictures: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**vars(self), "share": self.share.to_dict()}


@dataclass(frozen=True)
class Crossing:
    """A probe on another set's held-out pictures, beside the probe that was trained there.

    backbone: of both. trained_here, trained_there: accuracies on the same pictures, those of emotions that
    both know; None where the other set has no such picture, or no training pictures. emotions: these.
    """

    backbone: str
    other: Path
    trained_here: Interval | None
    trained_there: Interval | None
    pictures: int
    emotions: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        told = {
            name: None if interval is None else interval.to_dict()
            for name, interval in (("here", self.trained_here), ("there", self.trained_there))
        }
        return {
            "set": str(self.other),
            "backbone": self.backbone,
            "trained_here": told["here"],
            "trained_there": told["there"],
            "pictures": self.pictures,
            "emotions": list(self.emotions),
            "notes": list(self.notes),
        }


def agreement(first: Scored, second: Scored, seed: int = 0) -> Agreement:
    """How far two probes agree, scored on the same pictures of the same set.

    Raises: ValueError for figures of other pictures.
    """
    from sklearn.metrics import cohen_kappa_score

    if first.true != second.true:
        raise ValueError("two probes can be compared on the same pictures only")
    same = correct(first.seen, second.seen)
    alike = len({*first.seen, *second.seen}) == 1
    right = [correct(scored.seen, scored.true) for scored in (first, second)]
    return Agreement(
        share=bootstrap_mean(same, first.true, seed=seed),
        kappa=None if alike else float(cohen_kappa_score(first.seen, second.seen)),
        both_right=float((right[0] * right[1]).mean()),
        both_wrong=float(((1 - right[0]) * (1 - right[1])).mean()),
        pictures=len(same),
    )


def across(
    report: ProbeReport,
    here: TrainingSet,
    other: TrainingSet,
    encoder: PictureEncoder,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Crossing:
    """Score a set's probe on another set, and that set's own probe beside it.

    report: of a probe trained on `here` with `encoder`.
    Raises: DataError when the sets share no emotion with held-out pictures in `other`.
    """
    probe = report.probe
    visiting = check_probe(probe, other, encoder, seed=seed, progress=progress).scored
    if visiting is None:
        raise DataError(f"{other.root} has no held-out picture of an emotion that {here.root} has.")
    notes = _seen_before(here, other)
    shared, own = list(probe.classes), None
    try:
        native = train_probe(other, encoder, seed=seed, progress=progress)
    except DataError as error:
        notes.append(f"No probe could be trained there: {error}")
    else:
        shared = [name for name in probe.classes if native.probe.knows(name)]
        names = [native.probe.classes[column] for column in native.probe.columns(shared)]
        own = _accuracy(native.scored, names, seed) if native.scored else None
    if alone := [name for name in probe.classes if name not in shared]:
        notes.append(f"{', '.join(alone)}: unknown there, and still a possible answer of this probe.")
    there = _accuracy(visiting, shared, seed)
    pictures = sum(name in shared for name in visiting.true)
    return Crossing(probe.backbone, other.root, there, own, pictures, tuple(shared), tuple(notes))


def _accuracy(scored: Scored, names: Sequence[str], seed: int) -> Interval | None:
    """On the pictures of these emotions; None where there is none."""
    kept = np.isin(scored.true, names)
    true = [name for name in scored.true if name in names]
    return bootstrap_mean(correct(scored.seen, scored.true)[kept], true, seed=seed) if true else None


def _seen_before(here: TrainingSet, other: TrainingSet) -> list[str]:
    """A note where held-out pictures of the other set are training pictures of this one."""
    known = set(here.samples("train").columns("sha256")["sha256"].to_pylist())
    scored = [
        digest
        for split in HELD_OUT
        for digest in other.samples(split).columns("sha256")["sha256"].to_pylist()
    ]
    again = sum(digest in known for digest in scored)
    if not again:
        return []
    return [f"{again} of its {len(scored)} held-out pictures are training pictures of {here.root}."]
