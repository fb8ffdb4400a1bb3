"""A probe's report as a JSON object and for the eye."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .intervals import Interval
from .probe_pair import Agreement, Crossing
from .probe_training import ProbeReport, Scored

if TYPE_CHECKING:
    from rich.table import Table


def report_dict(report: ProbeReport) -> dict[str, Any]:
    """The report as plain JSON values; what is not known is null."""
    probe, scored = report.probe, report.scored
    told: dict[str, Any] = {
        "classes": list(probe.classes),
        "backbone": probe.backbone,
        "encoder": probe.encoder or None,
        "licence": probe.licence,
        "trained_on": probe.trained_on,
        "trained": report.trained,
        "held_out": scored.score.pictures if scored else 0,
        "accuracy": scored.accuracy.to_dict() if scored else None,
        "mean_recall": scored.mean_recall if scored else None,
        "commonest": scored.commonest if scored else None,
        "emotions": _per_emotion(probe.classes, scored) if scored else {},
        "confusion": scored.score.confusion.tolist() if scored else None,
        "floors": [vars(floor) for floor in scored.floors] if scored else [],
        "notes": list(report.notes),
    }
    return told


def report_parts(report: ProbeReport) -> list[Table | str]:
    """Lines and tables for the terminal."""
    parts: list[Table | str] = []
    probe, scored = report.probe, report.scored
    names = len(probe.classes)
    if report.trained:
        parts.append(
            f"Trained on {probe.trained_on} pictures of {names} emotions, features of {probe.backbone}."
        )
    if scored:
        accuracy = scored.accuracy
        parts += [
            f"Right about {accuracy.value:.1%} of {scored.score.pictures} pictures that it has not seen "
            f"({accuracy.level:.0%} interval {accuracy.low:.1%} to {accuracy.high:.1%}); always naming the "
            f"commonest emotion: {scored.commonest:.1%}. Mean recall {scored.mean_recall:.1%}.",
            _confusion_table(probe.classes, scored),
            _floor_table(scored),
        ]
    return [*parts, *(f"Note: {note}" for note in report.notes)]


def agreement_line(both: Agreement) -> str:
    """What two probes agree on, in a sentence."""
    kappa = "" if both.kappa is None else f" Cohen's kappa {both.kappa:.2f};"
    return (
        f"The two probes say the same of {_percent(both.share)} of {both.pictures} held-out pictures;{kappa} "
        f"both right {both.both_right:.1%}, both wrong {both.both_wrong:.1%}."
    )


def crossing_parts(crossings: Sequence[Crossing]) -> list[Table | str]:
    """Accuracy across sets: a table, and what its readers must know."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = "On the held-out pictures of other sets, of the emotions that both sets have"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("set", "features of", "pictures", "trained here", "trained there"):
        table.add_column(heading, justify="left" if heading in ("set", "features of") else "right")
    for crossing in crossings:
        accuracies = [
            "-" if accuracy is None else _percent(accuracy)
            for accuracy in (crossing.trained_here, crossing.trained_there)
        ]
        cells = (crossing.other.name, crossing.backbone, str(crossing.pictures), *accuracies)
        table.add_row(*map(Text, cells))
    notes = {
        f"Note: {crossing.other.name}: {note}": None for crossing in crossings for note in crossing.notes
    }
    return [table, *notes]


def _percent(interval: Interval) -> str:
    return f"{interval.value:.1%} ({interval.low:.1%} to {interval.high:.1%})"


def _per_emotion(classes: Sequence[str], scored: Scored) -> dict[str, dict[str, float | int | None]]:
    confusion = scored.score.confusion
    rows, columns, right = confusion.sum(axis=1), confusion.sum(axis=0), confusion.diagonal()
    return {
        name: {
            "pictures": int(rows[i]),
            "recall": float(right[i] / rows[i]) if rows[i] else None,
            "precision": float(right[i] / columns[i]) if columns[i] else None,
        }
        for i, name in enumerate(classes)
    }


def _confusion_table(classes: Sequence[str], scored: Scored) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = "Rows: the true emotion, n pictures of it; columns: what the probe names."
    # Narrow: eight emotions fit into 80 columns.
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("", "n", "recall", *short_names(classes)):
        table.add_column(Text(heading), justify="right" if heading else "left")
    told = _per_emotion(classes, scored)
    for row, name in enumerate(classes):
        recall = told[name]["recall"]
        counts = scored.score.confusion[row].tolist()
        cells = [
            Text(str(count or "."), style="bold" if at == row else "") for at, count in enumerate(counts)
        ]
        told_recall = "-" if recall is None else f"{recall:.0%}"
        table.add_row(Text(name), str(told[name]["pictures"]), told_recall, *cells)
    return table


def _floor_table(scored: Scored) -> Table:
    from rich import box
    from rich.table import Table

    title = "Labelling above a floor of confidence"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("floor", "pictures labelled", "right among them"):
        table.add_column(heading, justify="right")
    for at in scored.floors:
        table.add_row(f"{at.floor:g}", f"{at.share:.1%}", "-" if at.right is None else f"{at.right:.1%}")
    return table


def short_names(names: Sequence[str], length: int = 4) -> list[str]:
    """The names cut to `length`, or to as many letters as keep them apart."""
    longest = max(map(len, names), default=0)
    while length < longest and len({name[:length] for name in names}) < len(names):
        length += 1
    return [name[:length] for name in names]
