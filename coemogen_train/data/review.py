"""What a person says of captions: verdicts that last from the moment they are given, and end in the table.

    SET/.work/review/journal.jsonl   a line per verdict, written through to the disk before it is confirmed
    SET/captions.parquet             takes them in when the review ends, or at the next one's start

A verdict is about what the person saw: a caption that became another one meanwhile is not judged by it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from ..captions.unwrap import plain_characters
from ..errors import DataError
from ..files import canonical_json
from . import tables
from .captioning_store import table_lock
from .samples import Sample, TrainingSet, side_by_side

Decision = Literal["accepted", "mended", "rejected"]
DECISIONS: tuple[Decision, ...] = ("accepted", "mended", "rejected")
_UNDONE = "undone"
MAX_CAPTION = 1000
"""Characters in a person's sentence; CLIP reads 77 tokens of it."""


class VerdictError(DataError):
    """A verdict that cannot be taken; the person is told why."""


@dataclass(frozen=True)
class Verdict:
    """sha256: of the picture. seen: the caption that was judged, "" where there was none. caption: the new
    one of what is mended, else what the decision makes of the caption."""

    id: str
    sha256: str
    decision: Decision
    seen: str
    caption: str


def decide(sample: Sample, row: Mapping[str, Any] | None, decision: str, text: str | None) -> Verdict:
    """Make a verdict on a sample and its row of captions.parquet (None: it has none).

    A caption that was set aside is accepted as its draft says. text: the person's sentence, to mend by.
    Raises: VerdictError.
    """
    seen = row["caption"] if row is not None else ""
    if decision == "rejected":
        return Verdict(sample.id, sample.sha256, "rejected", seen, "")
    if decision == "accepted":
        # As it is: what came with the source or from the model was cleaned then.
        kept = seen or plain_sentence((row or {}).get("draft") or "")
        if not kept:
            raise VerdictError("there is no caption to accept: write one.")
        return Verdict(sample.id, sample.sha256, "accepted", seen, kept)
    if decision != "mended":
        raise VerdictError(f"a verdict is one of {', '.join(DECISIONS)}.")
    sentence = plain_sentence(text or "")
    if sentence == seen and seen:
        return Verdict(sample.id, sample.sha256, "accepted", seen, seen)
    if not sentence:
        raise VerdictError("an empty caption says nothing: write one, or reject it.")
    if len(sentence) > MAX_CAPTION:
        raise VerdictError(f"a caption has at most {MAX_CAPTION} characters; this one has {len(sentence)}.")
    return Verdict(sample.id, sample.sha256, "mended", seen, sentence)


def plain_sentence(text: str) -> str:
    """A person's words on one line, without characters that cannot be seen; nothing else is changed."""
    return " ".join(plain_characters(text).split())


def judged(row: Mapping[str, Any] | None, verdict: Verdict) -> dict[str, Any] | None:
    """The row of captions.parquet that a verdict makes of a row; None where it is about something else.

    Told twice, a verdict does what it does once.
    """
    if row is None or row["sha256"] != verdict.sha256:  # a caption of another picture is none of this one
        fresh = {"id": verdict.id, "sha256": verdict.sha256, "origin": "person"}
        return {**fresh, "caption": verdict.caption, "review": verdict.decision} if not verdict.seen else None
    if row["review"] == verdict.decision and row["caption"] == verdict.caption:
        return dict(row)
    if verdict.decision != "mended" and row["caption"] != verdict.seen:
        return None
    result = {**row, "review": verdict.decision, "caption": verdict.caption}
    if verdict.caption != row["caption"]:
        # Another text: what a model saw in the old one says nothing of it.
        result |= {"blind_emotion": None, "blind_model": None, "draft": row["caption"] or row["draft"]}
    if verdict.decision == "mended":
        result["origin"] = "person"
    if verdict.caption:
        result["faults"] = None
    return result


class Journal:
    """The verdicts of a review that are not in the table yet, the last one of each sample."""

    def __init__(self, path: Path):
        self._path = path
        self.verdicts: dict[str, Verdict] = {}
        for sample_id, verdict in _read(path):
            self._keep(sample_id, verdict)
        # A line that a kill left unfinished must not swallow the next one.
        self._torn = path.is_file() and not path.read_bytes().endswith(b"\n")

    def add(self, verdict: Verdict) -> None:
        """Write a verdict through to the disk; it lasts once this returns."""
        self._append(asdict(verdict))
        self._keep(verdict.id, verdict)

    def undo(self, sample_id: str) -> None:
        """Take a sample's verdict back."""
        self._append({"id": sample_id, "decision": _UNDONE})
        self._keep(sample_id, None)

    def counts(self) -> dict[str, int]:
        """How many verdicts of each kind there are."""
        found = Counter(verdict.decision for verdict in self.verdicts.values())
        return {decision: found[decision] for decision in DECISIONS}

    def merge(self, of: TrainingSet) -> dict[str, int]:
        """Take the verdicts into captions.parquet, and start anew.

        Returns: how many of each kind were taken in, and how many were about what is no longer there.
        """
        counts: dict[str, int] = dict.fromkeys((*DECISIONS, "outdated"), 0)
        if self.verdicts:
            with table_lock(of):  # captioning may be under way
                of.write_captions(self._merged(of, counts))
        # A kill before this line has the same verdicts told once more, which changes nothing.
        self._path.unlink(missing_ok=True)
        self.verdicts, self._torn = {}, False
        return counts

    def _merged(self, of: TrainingSet, counts: dict[str, int]) -> Iterator[dict[str, Any]]:
        known = of.samples().columns("id", "sha256")
        known = known.filter(pc.is_in(known["id"], value_set=pa.array(list(self.verdicts), pa.string())))
        pictures = dict(zip(known["id"].to_pylist(), known["sha256"].to_pylist(), strict=True))
        captions = tables.iterate_table(of.root / "captions.parquet", tables.CAPTIONS)
        verdicts = ({"id": key, "verdict": self.verdicts[key]} for key in sorted(self.verdicts))
        for row, told in side_by_side(captions, verdicts):
            if told is None:
                assert row is not None  # noqa: S101 - one of the two is there
                yield row
                continue
            verdict: Verdict = told["verdict"]
            result = judged(row, verdict) if pictures.get(verdict.id) == verdict.sha256 else None
            counts["outdated" if result is None else verdict.decision] += 1
            if result is not None:
                yield result
            elif row is not None:
                yield row

    def _keep(self, sample_id: str, verdict: Verdict | None) -> None:
        if verdict is None:
            self.verdicts.pop(sample_id, None)
        else:
            self.verdicts[sample_id] = verdict

    def _append(self, value: Mapping[str, Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        line = canonical_json(value).encode("utf-8") + b"\n"
        with self._path.open("ab") as stream:
            stream.write(b"\n" + line if self._torn else line)
            stream.flush()
            os.fsync(stream.fileno())
        self._torn = False


def _read(path: Path) -> Iterator[tuple[str, Verdict | None]]:
    """(sample id, its verdict or None for one taken back), in their order; lines not whole are left out."""
    if not path.is_file():
        return
    with path.open("rb") as stream:
        for line in stream:
            try:
                value = json.loads(line)
                if value["decision"] == _UNDONE:
                    yield str(value["id"]), None
                elif value["decision"] in DECISIONS and all(isinstance(text, str) for text in value.values()):
                    yield str(value["id"]), Verdict(**value)
            except (ValueError, KeyError, TypeError):
                continue
