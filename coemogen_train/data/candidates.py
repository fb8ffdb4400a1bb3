"""Which pictures become samples: the one place where a picture is accepted or counted as a problem."""

from __future__ import annotations

from dataclasses import dataclass

from ..emotions import Taxonomy
from ..errors import TaxonomyError
from .images import CheckedImage, ImageProblem
from .report import Tally
from .sources.record import Record, clean_text
from .splits import split_named


@dataclass
class Candidate:
    """A picture that can be decoded and has a known emotion, before duplicates are sorted out."""

    record: Record
    id: str
    emotion: str
    checked: CheckedImage
    notes: tuple[str, ...]


def accept(
    record: Record, checked: CheckedImage | ImageProblem | None, taxonomy: Taxonomy, tally: Tally
) -> Candidate | None:
    """Return what can become a sample, or count why not. The first fault decides the class."""
    if record.problem is not None:
        tally.problem(record.problem[0], record.name, record.problem[1])
        return None
    wanted = record.id or record.name
    if _unprintable(wanted) or _unprintable(record.name):
        tally.problem("unusable_name", record.name, "its name is not valid Unicode")
        return None
    if isinstance(checked, ImageProblem):
        tally.problem(checked.kind, record.name, checked.detail)
        return None
    if checked is None:
        tally.problem("missing", record.name, "the source names no file")
        return None
    if record.emotion is None or not record.emotion.strip():
        tally.problem("no_emotion", record.name, "no folder or cell gives its emotion")
        return None
    try:
        emotion = taxonomy.names[taxonomy.index(clean_text(record.emotion))]
    except TaxonomyError:
        tally.problem("unknown_emotion", record.name, f"its label is {clean_text(record.emotion)!r}")
        return None
    if record.split is not None and split_named(record.split) is None:
        tally.problem("unknown_split", record.name, f"its split is {record.split!r}")
        return None
    trimmed = record.emotion != record.emotion.strip()
    return Candidate(record, wanted, emotion, checked, (*checked.notes, *(("trimmed_label",) * trimmed)))


def without_duplicates(candidates: list[Candidate], tally: Tally) -> list[Candidate]:
    """Keep the first of each content, and nothing of content under different emotions: no label is sure."""
    emotions: dict[str, set[str]] = {}
    for candidate in candidates:
        emotions.setdefault(candidate.checked.sha256, set()).add(candidate.emotion)
    first: dict[str, str] = {}
    ids: set[str] = set()
    usable = []
    for candidate in candidates:
        digest, name = candidate.checked.sha256, candidate.record.name
        if len(emotions[digest]) > 1:
            tally.problem("conflicting_duplicate", name, f"under {', '.join(sorted(emotions[digest]))}")
        elif digest in first:
            tally.problem("duplicate", name, f"the same as {first[digest]}")
        elif candidate.id in ids:
            tally.problem("duplicate_id", name, f"the id {candidate.id!r} occurred before")
        else:
            first[digest] = name
            ids.add(candidate.id)
            usable.append(candidate)
            for note in candidate.notes:
                tally.note(note, name)
    return usable


def _unprintable(text: str) -> bool:
    """Whether UTF-8, and so a table, cannot hold this text: a file name of bytes in another encoding."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
