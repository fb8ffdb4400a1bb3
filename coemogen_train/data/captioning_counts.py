"""Counting what came of a captioning, in the table and in what lies beside it: the sums add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .captioning_jobs import Job, Standing
from .captioning_plan import Plan
from .captioning_report import Tally
from .captioning_store import read_answers, standings
from .samples import TrainingSet

_EXAMPLES = 5


def tally(plan: Plan, of: TrainingSet, job: Job, parts: Path) -> Tally:
    """Count the answers to what was open when this process began, whoever asked, as the table has them.

    To be called within `table_lock`, the set read anew. parts: where pictures without an answer are told of.
    """
    counts = _Counts()
    is_open = np.zeros(len(of.samples()), dtype=bool)
    for part in plan.parts:
        is_open[part.members[part.is_open]] = True
    settled = np.zeros(len(is_open), dtype=bool)  # they have a row from this job, or need none any more
    elsewhere = np.zeros(len(is_open), dtype=bool)
    for index, (sample, row) in enumerate(standings(of)):
        if not is_open[index]:
            continue
        standing = job.standing(sample, row)
        settled[index] = standing is Standing.DONE
        elsewhere[index] = standing in (Standing.KEPT, Standing.APART)
        if row is not None and settled[index]:
            counts.answer(*job.outcome(row, sample["emotion"]))
    ids = of.samples().columns("id")["id"]
    for part in plan.parts:
        members = part.members[part.is_open & ~settled[part.members]].tolist()
        if not members:
            continue
        found = read_answers(parts / f"{part.name}.journal") | read_answers(parts / f"{part.name}.jsonl")
        for member in members:
            counts.rest(found.get(ids[member].as_py()), bool(elsewhere[member]))
    asked = counts.outcomes.total()
    return Tally(
        asked,
        counts.answers,
        dict(counts.outcomes),
        dict(counts.faults),
        plan.kept + counts.others,
        plan.open - asked - counts.others,
        dict(sorted(counts.examples.items())),
        counts.retried,
        counts.cured,
        dict(counts.asked_again),
        **state(of, job),
    )


def state(of: TrainingSet, job: Job) -> dict[str, Any]:
    """What a tally says of all pictures of the job's split."""
    if job.kind == "blind":
        return {"emotions": agreement(of, job.split)}
    return {"captions": state_of_captions(of, job.split)}


class _Counts:
    """What `tally` adds up. others: pictures that got from elsewhere what was to be asked for."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.asked_again: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self.answers = self.retried = self.cured = self.others = 0

    def answer(self, kind: str, asking: Mapping[str, Any]) -> None:
        """Count an answer that is in the table."""
        self.outcomes[kind] += 1
        attempts = asking.get("attempts") or 0
        self.answers += attempts
        self.retried += attempts > 1
        self.cured += attempts > 1 and kind in ("clean", "mended")
        self.asked_again.update(asking.get("asked_again") or ())
        if kind in ("set_aside", "kept_old"):
            self.faults.update(asking.get("faults") or ())

    def rest(self, answer: Mapping[str, Any] | None, elsewhere: bool) -> None:
        """Count a picture whose row is not from this job. elsewhere: it needs none from it any more."""
        if answer is not None and "problem" in answer:
            kind = "unanswered" if answer["problem"] == "unanswered" else "unreadable"
            self.outcomes[kind] += 1
            examples = self.examples.setdefault(kind, [])
            if len(examples) < _EXAMPLES:
                examples.append(f"{answer['id']}: {answer['why']}")
        elif elsewhere and answer is not None:
            self.outcomes["unused"] += 1
            self.answers += answer.get("attempts", 0)
        else:
            self.others += elsewhere


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
