"""The tables of a comparison as text: for Markdown, for the terminal, and as cells for the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..captions import duration, shown
from .measures import Measure, in_order
from .published import METRICS, PUBLISHED
from .result import Comparison, Row

if TYPE_CHECKING:
    from rich.table import Table as RichTable

ARROWS = {
    "higher": "\N{NO-BREAK SPACE}\N{UPWARDS ARROW}",
    "lower": "\N{NO-BREAK SPACE}\N{DOWNWARDS ARROW}",
    "": "",
}
_STYLES = {"ours": "bold", "reference": "dim"}


@dataclass(frozen=True)
class Table:
    """Cells as text. kinds: of the rows; the first column names them."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    kinds: tuple[str, ...]


def experiments(comparison: Comparison) -> dict[str, list[Row]]:
    """The rows of every experiment, in the order of their first appearance."""
    found: dict[str, list[Row]] = {}
    for row in comparison.rows:
        found.setdefault(row.experiment, []).append(row)
    return found


def question(experiment: str) -> str:
    """What an experiment asks; empty for one that is not ours."""
    from .variants import EXPERIMENTS

    return EXPERIMENTS[experiment].question if experiment in EXPERIMENTS else ""


def measures_of(rows: Iterable[Row]) -> list[Measure]:
    """The measures that any of these rows has."""
    return in_order(name for row in rows for name in row.metrics)


def figures_table(rows: Sequence[Row], measures: Sequence[Measure] | None = None) -> Table:
    """Rows by metrics, each cell a mean with its interval."""
    kinds = measures_of(rows) if measures is None else measures
    return Table(
        ("", *(kind.title + ARROWS[kind.better] for kind in kinds)),
        tuple((row.title, *(kind.told(row.metrics.get(kind.name)) for kind in kinds)) for row in rows),
        tuple(row.kind for row in rows),
    )


def costs_table(rows: Sequence[Row]) -> Table:
    """What every row cost, and how it was fitted and drawn."""
    heads = ("", "Training", "Trained parameters", "Peak memory", "Guidance", "Setting", "Pictures", "Seeds")
    return Table(heads, tuple((row.title, *_costs(row)) for row in rows), tuple(row.kind for row in rows))


def published_table() -> Table:
    """The paper's figures."""
    return Table(
        ("", *(kind.title + ARROWS[kind.better] for kind in measures_of_the_paper())),
        tuple((row.title, *(row.figures[name] for name in METRICS)) for row in PUBLISHED),
        tuple("ours" if row.name == "coemogen" else "baseline" for row in PUBLISHED),
    )


def rows_of_the_paper(comparison: Comparison) -> list[Row]:
    """Our rows of the methods and ablations that the paper has, in its order."""
    rows = once(comparison.rows)
    return [rows[published.name] for published in PUBLISHED if published.name in rows]


def measures_of_the_paper() -> list[Measure]:
    """The paper's columns, in its order."""
    return in_order(METRICS, keep=True)


def once(rows: Iterable[Row]) -> dict[str, Row]:
    """Of rows that stand in several experiments the first, by name."""
    found: dict[str, Row] = {}
    for row in rows:
        found.setdefault(row.name, row)
    return found


def markdown(table: Table) -> str:
    """The table as Markdown."""
    lines = [table.heads, ("---",) * len(table.heads), *table.rows]
    return "\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in lines)


def rich_table(table: Table, title: str) -> RichTable:
    """The table for a terminal."""
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(title=Text(title), title_justify="left", show_edge=False, pad_edge=False)
    for number, head in enumerate(table.heads):
        drawn.add_column(Text(head), justify="right" if number else "left")
    for cells, kind in zip(table.rows, table.kinds, strict=True):
        # Text, not str: a title in square brackets is a title and no colour.
        drawn.add_row(*(Text(cell) for cell in cells), style=_STYLES.get(kind, ""))
    return drawn


def _costs(row: Row) -> tuple[str, ...]:
    seconds = duration(row.seconds.mean) if row.seconds is not None else shown(None)
    memory = f"{row.peak_mib:,.0f} MiB" if row.peak_mib else shown(None)
    setting = ", ".join(f"{key} {value}" for key, value in row.setting.items()) or shown(None)
    parameters = f"{row.parameters:,}" if row.parameters else shown(None)
    seeds = ", ".join(map(str, row.seeds))
    return seconds, parameters, memory, shown(row.guidance, 1), setting, str(row.pictures), seeds


def _escaped(cell: str) -> str:
    """Text for a cell of Markdown, whatever is in it."""
    plain = " ".join(cell.split()).replace("&", "&amp;").replace("<", "&lt;")
    for sign in "\\|`*_[]":
        plain = plain.replace(sign, f"\\{sign}")
    return plain
