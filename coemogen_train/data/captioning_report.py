"""What came of a captioning, counted: every picture in exactly one place, and the sums add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..captions import FAULTS, PROMPT_VERSION
from .captioning_jobs import outcome
from .captioning_plan import Plan
from .captioning_store import read_answers, standings
from .samples import TrainingSet

if TYPE_CHECKING:
    from rich.table import Table

_EXAMPLES = 5
_OUTCOMES = {
    "clean": "a caption as it was answered",
    "mended": "a caption out of which something was taken",
    "set_aside": "no usable answer in all attempts: the best one is kept as a draft",
    "unreadable": "the picture is gone or has changed: run prepare again",
    "unanswered": "the server failed on this picture: it is asked about again next time",
}


@dataclass(frozen=True)
class Tally:
    """Counts of one run's answers. asked: sum of the outcomes. answers: of the model, all attempts counted.

    faults: of the answers set aside, which may have several. kept: pictures that had an answer before. left:
    pictures still to ask about. examples: of pictures without an answer, by kind, "id: why".
    """

    asked: int = 0
    answers: int = 0
    outcomes: Mapping[str, int] = field(default_factory=dict)
    faults: Mapping[str, int] = field(default_factory=dict)
    kept: int = 0
    left: int = 0
    examples: Mapping[str, list[str]] = field(default_factory=dict)

    @property
    def without_answer(self) -> int:
        """Of those asked about, the ones that got no answer and no row."""
        return self.outcomes.get("unreadable", 0) + self.outcomes.get("unanswered", 0)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


@dataclass(frozen=True)
class BlindReport:
    """The blind pass. emotions: of each how many captions were judged, agree with the label, are unclear."""

    told: Tally
    emotions: Mapping[str, Mapping[str, int]]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        told = self.told
        sums = {
            name: sum(row[name] for row in self.emotions.values()) for name in ("judged", "agree", "unclear")
        }
        return {"asked": told.asked, "kept": told.kept, "left": told.left, **sums, "emotions": self.emotions}


@dataclass(frozen=True)
class CaptionReport:
    """What `caption` did. state: of all pictures of the split, how many have a caption and why not. stopped:
    the budget that was used up, None where all was asked. requests: by this process to a server."""

    model: str
    told: Tally
    state: Mapping[str, int]
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
            "captions": dict(self.state),
            **blind,
        }

    def tables(self) -> list[Table | str]:
        """The report as rich tables, and lines of text."""
        told = self.told
        parts: list[Table | str] = [
            _table(f"{told.asked} pictures asked about, {told.kept} kept", _rows(told))
        ]
        for kind, names in told.examples.items():
            parts += [f"{kind}: {name}" for name in names]
        if self.blind is not None:
            parts.append(_blind_table(self.blind))
        state = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in self.state.items() if count)
        parts.append(f"Of all pictures: {state}.")
        left = told.left + (self.blind.told.left if self.blind else 0)
        if left:
            why = f" (the budget of {self.stopped} is used up)" if self.stopped else ""
            parts.append(f"{left} are left{why}: run the same command again to go on.")
        return parts


def tally(plan: Plan, of: TrainingSet, parts: Path) -> Tally:
    """Count the answers to what was open when this process began, whoever asked."""
    outcomes: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    answers = 0
    ids = of.samples().columns("id")["id"]
    for part in plan.parts:
        if not part.is_open.any():
            continue
        found = read_answers(parts / f"{part.name}.journal") | read_answers(parts / f"{part.name}.jsonl")
        if not found:
            continue
        for member in part.members[part.is_open].tolist():
            row = found.get(ids[member].as_py())
            if row is None:
                continue
            kind = outcome(row)
            outcomes[kind] += 1
            faults.update(row.get("faults", ()) if kind == "set_aside" else ())
            answers += row.get("attempts", 0)
            if "problem" in row and len(examples.setdefault(kind, [])) < _EXAMPLES:
                examples[kind].append(f"{row['id']}: {row['why']}")
    asked = outcomes.total()
    return Tally(
        asked,
        answers,
        dict(outcomes),
        dict(faults),
        plan.kept,
        plan.open - asked,
        dict(sorted(examples.items())),
    )


def state_of_captions(of: TrainingSet, split: str | None) -> dict[str, int]:
    """Of all pictures of a split: captioned, set_aside, rejected (by a person), without; they add up."""
    state = dict.fromkeys(("captioned", "set_aside", "rejected", "without"), 0)
    for sample, row in standings(of):
        if split is not None and sample["split"] != split:
            continue
        if row is None or row["sha256"] != sample["sha256"]:
            state["without"] += 1
        elif row["caption"]:
            state["captioned"] += 1
        else:
            state["rejected" if row["review"] == "rejected" else "set_aside"] += 1
    return state


def agreement(of: TrainingSet, split: str | None) -> dict[str, dict[str, int]]:
    """Per emotion of the label: captions judged blindly, those said to evoke it, those left unclear."""
    found = {name: {"judged": 0, "agree": 0, "unclear": 0} for name in of.taxonomy.names}
    for sample, row in standings(of):
        if row is None or row["blind_emotion"] is None or row["sha256"] != sample["sha256"]:
            continue
        if row["caption"] and (split is None or sample["split"] == split):
            counts = found[sample["emotion"]]
            counts["judged"] += 1
            counts["agree"] += row["blind_emotion"] == sample["emotion"]
            counts["unclear"] += row["blind_emotion"] == ""
    return found


def _all_outcomes(told: Tally) -> dict[str, Any]:
    """With a count for every outcome, and the faults from the mildest on."""
    value = told.to_dict()
    value["outcomes"] = {name: told.outcomes.get(name, 0) for name in _OUTCOMES}
    value["faults"] = {name: told.faults[name] for name in FAULTS if name in told.faults}
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
