"""What a source says of one picture, before anybody has looked at the picture itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...emotions import Taxonomy
from ..report import Tally


@dataclass(frozen=True)
class Record:
    """One picture as a source lists it; labels are as written, mapped to the taxonomy later.

    name: how the table of problems calls it. image: its path, None where the source could not even tell.
    id: wanted sample id, None for the name. problem: (kind, detail) when the source itself found the fault.
    """

    name: str
    image: Path | None
    emotion: str | None = None
    caption: str | None = None
    split: str | None = None
    id: str | None = None
    scene: str | None = None
    objects: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    problem: tuple[str, str] | None = None


@dataclass(frozen=True)
class SourceContext:
    """What a source may need: the emotions, the set's own folder (to leave out), the tally of notes."""

    taxonomy: Taxonomy
    out: Path
    tally: Tally


@dataclass(frozen=True)
class Source:
    """A format. root: where relative image paths start from. records: in an order that is always the same."""

    name: str
    detects: Callable[[Path], bool]
    root: Callable[[Path], Path]
    records: Callable[[Path, SourceContext], Iterator[Record]]


def clean_text(value: str) -> str:
    """Return `value` on one line, without null characters and what UTF-8 cannot hold (half surrogates)."""
    whole = value.encode("utf-8", errors="replace").decode("utf-8").replace("\0", " ")
    return " ".join(whole.split())
