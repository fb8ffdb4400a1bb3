"""The report's table in the terminal, with rich."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .captions import comparison_verdict, duration, shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from .report import DemoReport, Row

STYLES = {"ours": "bold", "reference": "dim"}


def metrics_table(report: DemoReport) -> Table:
    """The same rows and figures as on the page, narrow enough for 100 columns."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(report.title), title_justify="left", show_edge=False, pad_edge=False)
    for heading in ("", "emotion accuracy", "coverage", "story", "Frechet", "guidance", "n"):
        table.add_column(heading, justify="right" if heading else "left")
    for row in report.rows:
        cells = (
            row.name,
            _accuracy(row),
            _coverage(row),
            shown(row.story),
            shown(row.frechet),
            shown(row.guidance, 1),
            shown(row.n, 0),
        )
        # Text, not str: a name in square brackets is a name and no colour.
        table.add_row(*(Text(cell) for cell in cells), style=STYLES.get(row.kind, ""))
    return table


def print_report(report: DemoReport, console: Console) -> None:
    """The table, the verdict, and how long it all took."""
    from rich.text import Text

    console.print(metrics_table(report))
    if report.comparison is not None:
        console.print(Text(comparison_verdict(report)))
    if report.stages:
        console.print(Text(f"{duration(sum(stage.seconds for stage in report.stages))} in all.", style="dim"))


def _accuracy(row: Row) -> str:
    if row.low is None or row.high is None:
        return shown(row.emo_a)
    return f"{shown(row.emo_a)} ({row.low:.2f} to {row.high:.2f})"


def _coverage(row: Row) -> str:
    if row.coverage is None or not row.coverage_of:
        return shown(row.coverage, 1)
    return f"{row.coverage:.1f} of {row.coverage_of:g}"
