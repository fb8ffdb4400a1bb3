"""What `prepare` found: every picture is either usable or in exactly one class of problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import escaped

if TYPE_CHECKING:
    from rich.table import Table

_EXAMPLES = 5
# A name may be 4096 bytes long; the table of problems must stay readable.
_NAME_LENGTH = 120

PROBLEM_TEXTS = {
    "missing": "the file that the table names is not there",
    "empty": "a file without a single byte",
    "truncated": "the picture breaks off: copy or download it again",
    "undecodable": "not a picture, or in a format that cannot be read",
    "too_large": "more pixels or bytes than any photograph: a decompression bomb, or scale it down",
    "too_small": "too few pixels to learn from",
    "not_a_file": "a folder, pipe or device where a picture should be",
    "unreadable": "the system does not allow reading it",
    "unusable_name": "a name that is not valid text: rename it",
    "outside": "a link or path that leads out of the source folder: copy the picture in",
    "no_emotion": "nothing says which emotion it has",
    "unknown_emotion": "its label is not an emotion of the taxonomy",
    "unknown_split": "its split is none of train, val, test",
    "bad_row": "a line of the table that cannot be read",
    "duplicate": "the same file content once more; the first is used",
    "conflicting_duplicate": "the same file content under different emotions: none is used",
    "duplicate_id": "an id that another row has already",
    "unsure": "the probe is not sure enough of its emotion",
    "ambiguous": "several emotions have equally many votes",
    "rejected": "whoever annotated it set it aside",
    "unlisted": "a picture in the folder that no row of its lists names",
    "packed": "still in an archive beside the table: unpack it",
    "damaged_archive": "an archive that breaks off: the rest is not counted; copy or download it again",
}
NOTE_TEXTS = {
    "animated": "moving pictures: the first frame is used",
    "exif_rotated": "turned upright as their EXIF says",
    "transparent": "laid over white",
    "cmyk": "converted from CMYK",
    "deep_grey": "scaled from 16 or more bits to 8",
    "wrong_suffix": "the ending of the name is not that of the content",
    "trimmed_label": "labels with spaces around them",
    "forgiven_label": "labels in another word form, or with a slip of the keyboard",
    "missing_annotation": "there is no annotation file: used without scene, objects and attributes",
    "broken_annotation": "an annotation file that cannot be read: used without what it says",
    "annotation_disagrees": "the annotation names another emotion than the list, which is believed",
    "empty_caption": "a caption file without text",
    "unreadable_caption": "a caption file that is not UTF-8 text, or may not be read",
    "other_files": "files that are no pictures, left alone",
    "hidden_files": "hidden files, and hidden folders with pictures in them, left alone",
    "unreadable_folders": "folders that the system does not allow listing: what is in them is not counted",
}


@dataclass
class Tally:
    """Counts while pictures are read; `prepare` turns it into a `PrepareReport`."""

    problems: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def problem(self, kind: str, name: str) -> None:
        """Count one picture that cannot be used."""
        self.problems[kind] += 1
        self._example(kind, name)

    def note(self, kind: str, name: str) -> None:
        """Count an oddity that harms nothing."""
        self.notes[kind] += 1
        self._example(kind, name)

    def _example(self, kind: str, name: str) -> None:
        shown = self.examples.setdefault(kind, [])
        if len(shown) < _EXAMPLES:
            shown.append(printable(name))


@dataclass(frozen=True)
class PrepareReport:
    """found = usable + the sum of problems; `emotions` counts usable pictures per emotion and split."""

    source: str
    found: int
    usable: int
    problems: dict[str, int]
    notes: dict[str, int]
    examples: dict[str, list[str]]
    emotions: dict[str, dict[str, int]]
    captions: int

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            "source": self.source,
            "found": self.found,
            "usable": self.usable,
            "problems": dict(self.problems),
            "notes": dict(self.notes),
            "examples": {kind: list(names) for kind, names in self.examples.items()},
            "emotions": {name: dict(splits) for name, splits in self.emotions.items()},
            "captions": self.captions,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> PrepareReport:
        """Read `to_dict`'s object."""
        return cls(**value)

    def tables(self) -> list[Table]:
        """The report as rich tables: pictures per emotion and split, then problems and notes."""
        from rich.table import Table
        from rich.text import Text

        splits = ("train", "val", "test")
        counts = Table(title=f"{self.usable} of {self.found} pictures usable, {self.captions} with a caption")
        counts.add_column("emotion")
        for name in (*splits, "all"):
            counts.add_column(name, justify="right")
        for emotion, per_split in self.emotions.items():
            counts.add_row(Text(emotion), *(str(per_split[s]) for s in splits), str(sum(per_split.values())))
        totals = [sum(per_split[s] for per_split in self.emotions.values()) for s in splits]
        counts.add_section()
        counts.add_row("all", *map(str, totals), str(sum(totals)))
        if not self.problems and not self.notes:
            return [counts]
        findings = Table(title="what was found")
        findings.add_column("kind")
        findings.add_column("count", justify="right")
        findings.add_column("meaning")
        findings.add_column("examples", overflow="fold")
        for found, texts in ((self.problems, PROBLEM_TEXTS), (self.notes, NOTE_TEXTS)):
            for kind, count in found.items():
                # Text, not str: a file may be called "[red]".
                findings.add_row(
                    kind, str(count), texts.get(kind, ""), Text(", ".join(self.examples.get(kind, [])))
                )
            findings.add_section()
        return [counts, findings]


def printable(name: str, limit: int | None = _NAME_LENGTH) -> str:
    """Return `name` on one line, what cannot be printed escaped, cut to `limit` characters."""
    shown = escaped(name)
    if limit is None or len(shown) <= limit:
        return shown
    return shown[: limit // 2] + "…" + shown[-limit // 2 :]


def encodable(text: str) -> str:
    """Return `text` with what UTF-8 cannot hold escaped."""
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")
