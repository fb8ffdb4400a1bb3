"""What a study says: preferences, an order, agreement, and who was left out."""

from __future__ import annotations

from dataclasses import dataclass

from ..intervals import Interval


@dataclass(frozen=True)
class Preference:
    """How often `first` is preferred to `second`, no difference counted half. question: "all" is all of them
    together. pairs: of pictures."""

    question: str
    first: str
    second: str
    share: Interval
    answers: int
    raters: int
    pairs: int


@dataclass(frozen=True)
class Standing:
    """A method's Bradley-Terry strength (log odds, mean 0 over the methods) and how often a resample has it
    first.

    range: of the strength; None, as first_share, where all answers about two methods are alike: resamples
    cannot show then how far apart these may be.
    """

    method: str
    strength: float
    range: Interval | None
    first_share: float | None


@dataclass(frozen=True)
class Accord:
    """How far raters agree on a question. alpha: Krippendorff's; share: of pairs of raters that say the same;
    None where no two raters saw the same."""

    question: str
    alpha: float | None
    share: float | None


@dataclass(frozen=True)
class Dropped:
    """A rater who is left out, and why."""

    rater: str
    file: str
    reason: str


@dataclass(frozen=True)
class StudyScore:
    """All that a study says. order: by question, the strongest method first. side_a: share of answers, other
    than no difference, that chose what was shown as A: near a half, unless raters are careless."""

    study: str
    raters: int
    dropped: tuple[Dropped, ...]
    answers: int
    preferences: tuple[Preference, ...]
    order: dict[str, tuple[Standing, ...]]
    agreement: tuple[Accord, ...]
    side_a: float | None
    notes: tuple[str, ...]
