"""What a run of the method found, as data: the numbers of the JSON, of the terminal's table and of the page.

Who fills a `DemoReport` decides nothing about its looks, and who draws it computes nothing about the method.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ..files import atomic_write_text
from .curves import Curve
from .intervals import Interval

Setting = tuple[str, str]


@dataclass(frozen=True)
class Row:
    """A method's line in the table; None where a figure was not measured.

    `emo_a` is the share of pictures whose intended emotion the probe sees, `low` and `high` its 95% interval
    over pictures; `coverage` the narratives reached per emotion, of `coverage_of`; `story` the share of
    pictures that tell one of their emotion's narratives; `frechet` the Frechet distance to real pictures;
    `diversity` the mean cosine distance within an emotion; `n` the number of pictures. `kind` is "reference"
    (real pictures), "baseline" or "ours" and only colours the line; `note` says in a few words what the row
    is.
    """

    name: str
    emo_a: float | None = None
    low: float | None = None
    high: float | None = None
    coverage: float | None = None
    coverage_of: float | None = None
    story: float | None = None
    frechet: float | None = None
    diversity: float | None = None
    guidance: float | None = None
    n: int | None = None
    kind: str = "baseline"
    note: str = ""


@dataclass(frozen=True)
class StageTime:
    """Wall-clock seconds that a stage took."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix of one row of the table: counts [E][E], rows intended, columns seen."""

    row: str
    names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class GuidancePoint:
    """A method at one guidance scale, for the curve of accuracy against coverage."""

    method: str
    guidance: float
    emo_a: float
    coverage: float


@dataclass(frozen=True)
class Comparison:
    """The difference of two rows' emotion accuracy (`first` - `second`) with its interval."""

    first: str
    second: str
    gain: Interval


@dataclass(frozen=True)
class ProbeFacts:
    """What a reader must know of the probe that judges: its features, its own accuracy, its pictures."""

    backbone: str
    held_out_accuracy: float
    held_out_pictures: int
    trained_on: int


@dataclass(frozen=True)
class DemoReport:
    """Everything a report shows; fields left empty leave their section out.

    `sheet` is a PNG; `caveats` are sentences of the caller that the page prints below the table, beside its
    own; `settings` are (heading, ((name, value), ...)).
    """

    title: str
    introduction: str
    rows: tuple[Row, ...]
    comparison: Comparison | None = None
    probe: ProbeFacts | None = None
    confusions: tuple[Confusion, ...] = ()
    guidance_points: tuple[GuidancePoint, ...] = ()
    curves: tuple[Curve, ...] = ()
    stages: tuple[StageTime, ...] = ()
    settings: tuple[tuple[str, tuple[Setting, ...]], ...] = ()
    caveats: tuple[str, ...] = ()
    sheet: bytes | None = None
    sheet_caption: str = ""
    footer: str = ""

    def row(self, name: str) -> Row:
        """The row of that name.

        Raises:
            KeyError: there is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def to_json(self) -> dict[str, object]:
        """Plain numbers, strings, lists and dicts, without the picture; what is not finite becomes None."""
        plain = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "sheet"}
        return {name: _plain(value) for name, value in plain.items()}


def write_report(report: DemoReport, path: Path) -> None:
    """Write the report as one self-contained HTML page, atomically."""
    from .page import report_page

    atomic_write_text(path, report_page(report))


def confusion_of(row: str, names: Sequence[str], counts: Sequence[Sequence[int]]) -> Confusion:
    """A `Confusion` from whatever `confusion_matrix` gave (an array, nested lists)."""
    return Confusion(row, tuple(names), tuple(tuple(int(count) for count in line) for line in counts))


def _plain(value: object) -> object:
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return _plain(asdict(value))  # type: ignore[call-overload]
