"""What becomes of one picture: the place where it is accepted for the set, or its problem is named."""

from __future__ import annotations

from dataclasses import dataclass

from ..emotions import Taxonomy
from .images import CheckedImage, ImageProblem
from .sources.record import Record, clean_text
from .splits import split_named


@dataclass(frozen=True)
class Problem:
    """Why a picture cannot be used. kind: its class in the report. name: of the picture, as the source has
    it."""

    kind: str
    name: str
    detail: str


@dataclass(frozen=True)
class Candidate:
    """A picture that can be decoded and has a known emotion, before duplicates are sorted out."""

    record: Record
    id: str
    emotion: str
    checked: CheckedImage
    notes: tuple[str, ...]


def accept(
    record: Record, checked: CheckedImage | ImageProblem | None, taxonomy: Taxonomy
) -> Candidate | Problem:
    """Return what can become a sample, or why not. The first fault decides the class."""
    if record.problem is not None:
        return Problem(record.problem[0], record.name, record.problem[1])
    wanted = record.id or record.name
    if _unprintable(wanted) or _unprintable(record.name):
        return Problem("unusable_name", record.name, "its name is not valid Unicode")
    if isinstance(checked, ImageProblem):
        return Problem(checked.kind, record.name, checked.detail)
    if checked is None:
        return Problem("missing", record.name, "the source names no file")
    if record.emotion is None or not record.emotion.strip():
        return Problem("no_emotion", record.name, "no folder or cell gives its emotion")
    label = clean_text(record.emotion)
    found = taxonomy.forgiving_index(label)
    if found is None:
        return Problem("unknown_emotion", record.name, f"its label is {label!r}")
    if record.split is not None and split_named(record.split) is None:
        return Problem("unknown_split", record.name, f"its split is {record.split!r}")
    index, exact = found
    odd = {"trimmed_label": record.emotion != record.emotion.strip(), "forgiven_label": not exact}
    notes = (*record.notes, *checked.notes, *(note for note, is_so in odd.items() if is_so))
    return Candidate(record, wanted, taxonomy.names[index], checked, notes)


def _unprintable(text: str) -> bool:
    """Whether UTF-8, and so a table, cannot hold this text: a file name of bytes in another encoding."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
