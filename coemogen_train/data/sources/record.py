"""What a source says of one picture, before anybody has looked at the picture itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ...emotions import Taxonomy
from ..report import Tally


class Embedded(Protocol):
    """A picture that is no file of its own: a member of an archive, a cell of a table. It is always
    copied."""

    @property
    def key(self) -> str:
        """Says which bytes these are, without reading them: the archive's path, size and time, and the
        place."""

    def read(self, max_bytes: int) -> bytes:
        """The picture's bytes; from any thread.

        Raises: OSError or ValueError where they cannot be had, also where there are more than `max_bytes`.
        """


@dataclass(frozen=True)
class Record:
    """One picture as a source lists it; labels are as written, mapped to the taxonomy later.

    name: how the table of problems calls it. image: its path, None where the source could not even tell.
    id: wanted sample id, None for the name. problem: (kind, detail) when the source itself found the fault.
    beside: further files that `Source.complete` reads for this picture, such as its annotation.
    notes: oddities that harm nothing, kinds of `report.NOTE_TEXTS`; counted where the picture is usable.
    """

    name: str
    image: Path | Embedded | None
    emotion: str | None = None
    caption: str | None = None
    split: str | None = None
    id: str | None = None
    scene: str | None = None
    objects: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    problem: tuple[str, str] | None = None
    beside: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceContext:
    """What a source may need: the emotions, the set's own folder (to leave out), the tally of notes."""

    taxonomy: Taxonomy
    out: Path
    tally: Tally


@dataclass(frozen=True)
class Source:
    """A format.

    root: where relative image paths start from. records: lists the pictures, in an order that is always the
    same; every process of a crew does it, so it is quick and opens no file per picture. complete: adds what
    stands in files of the picture's own (`Record.beside`); done once per picture, in parallel. taxonomy:
    name of the bundled taxonomy that the labels are of, where the format has one.
    """

    name: str
    detects: Callable[[Path], bool]
    root: Callable[[Path], Path]
    records: Callable[[Path, SourceContext], Iterator[Record]]
    complete: Callable[[Record], Record] = lambda record: record
    taxonomy: str = "mikels"


def clean_text(value: str) -> str:
    """Return `value` on one line, without null characters and what UTF-8 cannot hold (half surrogates)."""
    whole = value.encode("utf-8", errors="replace").decode("utf-8").replace("\0", " ")
    return " ".join(whole.split())
