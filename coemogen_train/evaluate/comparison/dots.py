"""A figure over the rows of a comparison: dots with intervals, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ...pages import Html, tag
from .axes import nothing, share, short, svg, ticks_of
from .measures import Measure
from .result import Estimate, Row

_WIDTH, _TOP, _LINE, _LABELS, _LETTERS = 560, 16, 32, 208, 27


def interval_plot(rows: Sequence[Row], kind: Measure) -> Html:
    """A figure over the rows: a dot with its interval, and the seeds as small ticks."""
    figures = [
        (row, row.metrics[kind.name])
        for row in rows
        if kind.name in row.metrics and math.isfinite(row.metrics[kind.name].mean)
    ]
    if not figures:
        return nothing()
    ticks = ticks_of([figure for _, figure in figures], kind)
    height = _TOP + _LINE * len(figures) + 30
    right = _WIDTH - 18

    def x(value: float) -> float:
        return _LABELS + (right - _LABELS) * share(value, ticks)

    bottom = _TOP + _LINE * len(figures)
    parts: list[Html] = []
    for tick in ticks:
        parts.append(tag("line", x1=short(x(tick)), x2=short(x(tick)), y1=_TOP - 6, y2=bottom, class_="grid"))
        parts.append(tag("text", f"{tick:g}", x=short(x(tick)), y=bottom + 18, text_anchor="middle"))
    for number, (row, figure) in enumerate(figures):
        parts.append(_line_of(row, figure, _TOP + _LINE * number + _LINE / 2, x))
    told = "; ".join(f"{row.title}: {kind.told(figure)}" for row, figure in figures)
    return svg(f"{kind.title} of every row", told, parts, _WIDTH, height, "plot dots")


def _line_of(row: Row, figure: Estimate, y: float, place: Callable[[float], float]) -> Html:
    parts = [_label(row, y)]
    if math.isfinite(figure.low) and math.isfinite(figure.high):
        low, high = place(figure.low), place(figure.high)
        parts.append(tag("line", x1=short(low), x2=short(high), y1=short(y), y2=short(y), class_="whisker"))
    if len(figure.values) > 1:
        parts += [
            tag(
                "line",
                x1=short(place(v)),
                x2=short(place(v)),
                y1=short(y - 7),
                y2=short(y + 7),
                class_="seed",
            )
            for v in figure.values
            if math.isfinite(v)
        ]
    parts.append(tag("circle", cx=short(place(figure.mean)), cy=short(y), r=5, class_="dot"))
    return tag("g", parts, class_=row.kind)


def _label(row: Row, y: float) -> Html:
    """A row's title right of the plot's edge, on one line or two."""
    lines = _wrapped(row.title)
    first = y + 4 - 7 * (len(lines) - 1)
    spans = [
        tag("tspan", line, x=_LABELS - 14, y=short(first + 14 * number)) for number, line in enumerate(lines)
    ]
    return tag("text", spans, text_anchor="end", class_="label")


def _wrapped(title: str) -> list[str]:
    """At most two lines, the second cut where it is too long."""
    lines: list[str] = []
    for word in title.split():
        if lines and len(lines[-1]) + 1 + len(word) <= _LETTERS:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    if len(lines) > 2:
        lines = [lines[0], lines[1] + "\N{HORIZONTAL ELLIPSIS}"]
    return [
        line if len(line) <= _LETTERS + 2 else line[:_LETTERS] + "\N{HORIZONTAL ELLIPSIS}" for line in lines
    ]
