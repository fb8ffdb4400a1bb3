"""Which pictures are asked about, and what an answer makes of their rows: the rules of `caption`.

A job looks at a sample and its row of the captions table and says how they stand to it. What is done by a job
stays part of its plan: so the plan, and with it the batches that answers are computed in, is the same before
and after a stopped run put its first captions into the table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, Literal

from ..captions import PROMPT_VERSION
from ..files import canonical_json
from .rows import caption_hash
from .tables import CAPTIONS

Redo = Literal["none", "faulty", "rejected", "all", "given", "blind"]
"""none: only pictures without an answer. faulty: those whose answer was set aside. rejected: those whose
caption a person rejected. all: whatever a model wrote. given: what came with the source. Never what a person
wrote, mended or accepted; and nothing that was written by the same model with the same settings. blind:
captions stay, but are judged anew."""

Row = Mapping[str, Any]
# What is noted of an asking after which an older caption stayed.
_TRIED = ("model", "prompt_version", "settings", "attempts", "faults", "asked_again")


class Standing(Enum):
    """How a sample stands to a job."""

    APART = "apart"
    """The job is not about it."""
    KEPT = "kept"
    """It has what the job would give it, from elsewhere."""
    OPEN = "open"
    DONE = "done"
    """It has it from this very job."""


@dataclass(frozen=True)
class CaptionJob:
    """Write captions. model, settings: who writes, and how; both are stored. batch: pictures at once."""

    model: str
    settings: Mapping[str, Any] = field(hash=False)
    redo: Redo = "none"
    split: str | None = None
    batch: int = 1
    kind: Literal["caption"] = "caption"

    def settings_for(self, emotion: str) -> str:
        """What is stored as a caption's settings: the emotion that the model was told is one of them."""
        return canonical_json({**self.settings, "emotion": emotion})

    def standing(self, sample: Row, row: Row | None) -> Standing:
        """sample: id, sha256, emotion, split. row: of tables.CAPTIONS, None where there is none."""
        if self.split is not None and sample["split"] != self.split:
            return Standing.APART
        if row is None or row["sha256"] != sample["sha256"]:
            return Standing.OPEN
        if row["origin"] == "person" or row["review"]:
            again = row["review"] == "rejected" and self.redo == "rejected"
        elif row["origin"] == "given":
            again = self.redo == "given"
        elif self._made(row, sample["emotion"]):
            return Standing.DONE
        else:
            again = self.redo == "all" or (self.redo == "faulty" and not row["caption"])
            again = again or _told_another(row, sample)
        if again and self.failed_at(row, sample["emotion"]) is not None:
            return Standing.DONE
        return Standing.OPEN if again else Standing.KEPT

    def merged(self, sample: Row, old: Row | None, new: Row) -> dict[str, Any] | None:
        """The row that an answer makes; None where it is about another picture or emotion by now.

        A caption is not given up for an answer that is none: its row only notes that this was tried.
        """
        if new["sha256"] != sample["sha256"] or _emotion_told(new) != sample["emotion"]:
            return None
        same = old if old is not None and old["sha256"] == sample["sha256"] else None
        failed = None if same is None else same["failed"]
        if same and same["caption"] and not new["caption"] and not _told_another(same, sample):
            tried = canonical_json({name: new.get(name) for name in _TRIED})
            return {**same, "failed": [*(failed or ()), tried]}
        return {name: new.get(name) for name in CAPTIONS.names} | {"origin": "model", "failed": failed}

    def outcome(self, row: Row, emotion: str) -> tuple[str, Row]:
        """What came of it for a sample of this emotion whose row is DONE, and the asking that it came of."""
        if self._made(row, emotion):
            return "set_aside" if not row["caption"] else "mended" if row["mended"] else "clean", row
        return "kept_old", self.failed_at(row, emotion) or {}

    def failed_at(self, row: Row, emotion: str) -> Row | None:
        """The asking of this very job after which an older caption stayed, None where there was none."""
        for text in row.get("failed") or ():
            try:
                tried = json.loads(text)
                if self._wrote(tried, emotion):
                    return tried
            except (ValueError, KeyError, TypeError):
                continue
        return None

    def _made(self, row: Row, emotion: str) -> bool:
        return row["origin"] == "model" and self._wrote(row, emotion)

    def _wrote(self, row: Row, emotion: str) -> bool:
        return bool(
            row["model"] == self.model
            and row["prompt_version"] == PROMPT_VERSION
            and row["settings"] == self.settings_for(emotion)
        )


@dataclass(frozen=True)
class BlindJob:
    """Judge captions by themselves. model: who judges, by which request. names: the emotions."""

    model: str
    settings: Mapping[str, Any] = field(hash=False)
    names: tuple[str, ...] = ()
    redo: Redo = "none"
    split: str | None = None
    batch: int = 1
    kind: Literal["blind"] = "blind"

    def standing(self, sample: Row, row: Row | None) -> Standing:
        """As `CaptionJob.standing`; pictures without a caption are none of its concern."""
        if self.split is not None and sample["split"] != self.split:
            return Standing.APART
        if row is None or not row["caption"] or row["sha256"] != sample["sha256"]:
            return Standing.APART
        if row["blind_emotion"] is None:
            return Standing.OPEN
        if row["blind_model"] == self.model:
            return Standing.DONE
        return Standing.OPEN if self.redo == "blind" else Standing.KEPT

    def merged(self, _sample: Row, old: Row | None, new: Row) -> dict[str, Any] | None:
        """The row with the judgement; None where its caption is another by now."""
        if old is None or caption_hash(old["caption"]) != new.get("caption_sha256"):
            return None
        return {**old, "blind_emotion": new.get("blind_emotion"), "blind_model": new.get("blind_model")}

    def outcome(self, row: Row, _emotion: str) -> tuple[str, Row]:
        """As `CaptionJob.outcome`; how often a judge was asked is not noted."""
        return "judged" if row["blind_emotion"] else "unclear", {}


Job = CaptionJob | BlindJob


def job_to_dict(job: Job) -> dict[str, Any]:
    """A job as plain JSON."""
    return asdict(job)


def job_from_dict(value: dict[str, Any]) -> Job:
    """Read `job_to_dict`'s object. Raises: KeyError, TypeError for anything else."""
    if value["kind"] == "blind":
        return BlindJob(**{**value, "names": tuple(value["names"])})
    return CaptionJob(**value)


def _told_another(row: Row, sample: Row) -> bool:
    """Whether a row was written for another emotion: the label has been corrected since."""
    return row["origin"] == "model" and _emotion_told(row) not in (None, sample["emotion"])


def _emotion_told(row: Row) -> str | None:
    """The emotion that the model was told when it wrote this, None where that is not known."""
    try:
        told = json.loads(row["settings"])["emotion"]
        return told if isinstance(told, str) else None
    except (ValueError, KeyError, TypeError):
        return None
