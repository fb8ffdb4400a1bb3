"""What came of a captioning, counted: every picture in exactly one place, and the sums add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ..captions import FAULTS, PROMPT_VERSION

if TYPE_CHECKING:
    from rich.table import Table

_OUTCOMES = {
    "clean": "a caption as it was answered",
    "mended": "a caption out of which something was taken",
    "set_aside": "no usable answer in all attempts: the best one is kept as a draft",
    "kept_old": "no usable answer in all attempts: the caption that was there stays",
    "unused": "the answer is not used: another run or a person was there first",
    "unreadable": "the picture is gone or has changed: run prepare again",
    "unanswered": "the server failed on this picture: it is asked about again next time",
}


@dataclass(frozen=True)
class Tally:
    """Counts of one run's answers. asked: sum of the outcomes. answers: of the model, all attempts counted.

    faults: of the answers set aside, which may have several. kept: pictures that had an answer before. left:
    pictures still to ask about. retried: pictures that were asked about again, since an answer was unusable;
    cured: those that got a caption so. asked_again: the faults of those answers. examples: of pictures
    without an answer, by kind, "id: why". captions, emotions: `state_of_captions` or `agreement` at that
    moment.
    """

    asked: int = 0
    answers: int = 0
    outcomes: Mapping[str, int] = field(default_factory=dict)
    faults: Mapping[str, int] = field(default_factory=dict)
    kept: int = 0
    left: int = 0
    examples: Mapping[str, list[str]] = field(default_factory=dict)
    retried: int = 0
    cured: int = 0
    asked_again: Mapping[str, int] = field(default_factory=dict)
    captions: Mapping[str, int] = field(default_factory=dict)
    emotions: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def without_answer(self) -> int:
        """Of those asked about, the ones that got no answer and no row."""
        return self.outcomes.get("unreadable", 0) + self.outcomes.get("unanswered", 0)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


@dataclass(frozen=True)
class BlindReport:
    """The blind pass."""

    told: Tally

    @property
    def emotions(self) -> Mapping[str, Mapping[str, int]]:
        """As `agreement`."""
        return self.told.emotions

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        told = self.told
        sums = {
            name: sum(row[name] for row in self.emotions.values()) for name in ("judged", "agree", "unclear")
        }
        counts = {"asked": told.asked, "kept": told.kept, "left": told.left}
        return {**counts, "unused": told.outcomes.get("unused", 0), **sums, "emotions": self.emotions}


@dataclass(frozen=True)
class CaptionReport:
    """What `caption` did. stopped: the budget that was used up, None where all was asked. requests: by this
    process to a server."""

    model: str
    told: Tally
    stopped: str | None = None
    requests: int = 0
    blind: BlindReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        blind = {} if self.blind is None else {"blind": self.blind.to_dict()}
        return {
            "model": self.model,
            "prompt_version": PROMPT_VERSION,
            **_all_outcomes(self.told),
            "requests": self.requests,
            "stopped": self.stopped,
            **blind,
        }

    def tables(self) -> list[Table | str]:
        """The report as rich tables, and lines of text."""
        told = self.told
        parts: list[Table | str] = [
            _table(f"{told.asked} pictures asked about, {told.kept} kept", _rows(told))
        ]
        if told.retried:
            parts.append(_again_table(told))
        for kind, names in told.examples.items():
            parts += [f"{kind}: {name}" for name in names]
        if self.blind is not None:
            parts.append(_blind_table(self.blind))
        state = ", ".join(
            f"{count} {name.replace('_', ' ')}" for name, count in told.captions.items() if count
        )
        parts.append(f"Of all pictures: {state}.")
        left = told.left + (self.blind.told.left if self.blind else 0)
        if left:
            why = f" (the budget of {self.stopped} is used up)" if self.stopped else ""
            parts.append(f"{left} are left{why}: run the same command again to go on.")
        return parts


def _all_outcomes(told: Tally) -> dict[str, Any]:
    """With a count for every outcome, and the faults from the mildest on."""
    value = told.to_dict()
    value["outcomes"] = {name: told.outcomes.get(name, 0) for name in _OUTCOMES}
    for key, counts in (("faults", told.faults), ("asked_again", told.asked_again)):
        value[key] = {name: counts[name] for name in FAULTS if name in counts}
    del value["emotions"]
    return value


def _rows(told: Tally) -> list[tuple[str, str, str]]:
    rows = []
    for name, meaning in _OUTCOMES.items():
        if name in ("clean", "mended", "set_aside") or told.outcomes.get(name):
            rows.append((name.replace("_", " "), str(told.outcomes.get(name, 0)), meaning))
        if name == "set_aside":
            rows += [
                (f"  {fault}", str(told.faults[fault]), FAULTS[fault])
                for fault in FAULTS
                if fault in told.faults
            ]
    return rows


def _again_table(told: Tally) -> Table:
    from rich.table import Table

    title = f"{told.retried} pictures asked about again, {told.cured} of them got a caption"
    table = Table("fault", title=title)
    table.add_column("answers", justify="right")
    table.add_column("what that is")
    for fault in FAULTS:
        if fault in told.asked_again:
            table.add_row(fault, str(told.asked_again[fault]), FAULTS[fault])
    return table


def _table(title: str, rows: list[tuple[str, str, str]]) -> Table:
    from rich.table import Table

    table = Table("outcome", title=title)
    table.add_column("pictures", justify="right")
    table.add_column("what that is")
    for row in rows:
        table.add_row(*row)
    return table


def _blind_table(blind: BlindReport) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("emotion", title="What the sentence alone would evoke")
    for name in ("judged", "agree", "unclear"):
        table.add_column(name, justify="right")
    for emotion, counts in blind.emotions.items():
        if counts["judged"]:
            share = f"{counts['agree']} ({counts['agree'] / counts['judged']:.0%})"
            table.add_row(Text(emotion), str(counts["judged"]), share, str(counts["unclear"]))
    return table
