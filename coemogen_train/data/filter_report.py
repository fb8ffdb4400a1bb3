"""What the filter did, per emotion and in all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class EmotionVerdict:
    """What the filter did to one emotion. scored = dropped + disagreed + kept.

    dropped: for their similarity. disagreed: because a model that saw the sentence alone named another
    emotion. lowest_kept, mean: similarities, None where there are none; the mean is of all that were scored.
    """

    scored: int
    dropped: int
    lowest_kept: float | None
    mean: float | None
    disagreed: int = 0

    @property
    def kept(self) -> int:
        """Pairs that training will see."""
        return self.scored - self.dropped - self.disagreed


@dataclass(frozen=True)
class FilterReport:
    """What the filter did. uncaptioned: training pictures without a caption, which it keeps unjudged.

    encoder: what the similarities are by: the fingerprint of a CLIP, or "column NAME".
    """

    drop: float
    emotions: dict[str, EmotionVerdict]
    uncaptioned: int
    encoder: str = ""

    @property
    def scored(self) -> int:
        """Pairs that were judged."""
        return sum(verdict.scored for verdict in self.emotions.values())

    @property
    def dropped(self) -> int:
        """Pairs that training will not see, because they fit worst."""
        return sum(verdict.dropped for verdict in self.emotions.values())

    @property
    def disagreed(self) -> int:
        """Pairs that training will not see, because the sentence alone says another emotion."""
        return sum(verdict.disagreed for verdict in self.emotions.values())

    @property
    def kept(self) -> int:
        """Pairs that training will see."""
        return self.scored - self.dropped - self.disagreed

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        emotions = {name: {**asdict(each), "kept": each.kept} for name, each in self.emotions.items()}
        totals = {name: getattr(self, name) for name in ("scored", "dropped", "disagreed", "kept")}
        told = {"uncaptioned": self.uncaptioned, "encoder": self.encoder}
        return {"drop": self.drop, **totals, **told, "emotions": emotions}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> FilterReport:
        """Read `to_dict`'s object."""
        names = ("scored", "dropped", "lowest_kept", "mean", "disagreed")
        emotions = {
            emotion: EmotionVerdict(**{name: each[name] for name in names})
            for emotion, each in value["emotions"].items()
        }
        return cls(value["drop"], emotions, value["uncaptioned"], value["encoder"])

    def tables(self) -> list[Table]:
        """The report as a rich table."""
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self.sentence())
        table.add_column("emotion")
        counts = ("scored", *(["disagreed"] if self.disagreed else []), "dropped", "kept")
        for name in (*counts, "lowest kept", "mean"):
            table.add_column(name, justify="right")
        for emotion, verdict in self.emotions.items():
            numbers = ("-" if n is None else f"{n:.4f}" for n in (verdict.lowest_kept, verdict.mean))
            table.add_row(Text(emotion), *(str(getattr(verdict, name)) for name in counts), *numbers)
        return [table]

    def sentence(self) -> str:
        """The totals in words."""
        apart = f", and {self.disagreed} more that say another emotion" if self.disagreed else ""
        more = f", {self.uncaptioned} without a caption kept" if self.uncaptioned else ""
        return f"{self.dropped} of {self.scored} pairs dropped{apart}{more}"


def verdicts_of(
    names: Iterable[str],
    emotions: np.ndarray,
    similarities: np.ndarray,
    dropped: np.ndarray,
    disagreed: np.ndarray,
) -> dict[str, EmotionVerdict]:
    """Count per emotion. emotions: [n] places in `names`. dropped, disagreed: [n] bool."""
    found = {}
    for place, name in enumerate(names):
        own = emotions == place
        kept = similarities[own & ~dropped & ~disagreed]
        found[name] = EmotionVerdict(
            scored=int(own.sum()),
            dropped=int((own & dropped).sum()),
            lowest_kept=float(kept.min()) if len(kept) else None,
            mean=float(similarities[own].mean()) if own.any() else None,
            disagreed=int((own & disagreed).sum()),
        )
    return found
