"""What the plots of a comparison share: the ticks of an axis, a drawing with its words, short numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...pages import Html, nice_ticks, tag
from .measures import Measure
from .result import Estimate


def ticks_of(figures: Sequence[Estimate], kind: Measure) -> tuple[float, ...]:
    """Round numbers from the lowest to the highest of the intervals, within the figure's bounds. A single
    interval that is many times wider than all the means together does not set the scale.
    """
    means = [figure.mean for figure in figures]
    reach = 1.5 * (max(means) - min(means)) or math.inf
    ends = [
        min(max(end, min(means) - reach), max(means) + reach)
        for figure in figures
        for end in (figure.low, figure.high, *figure.values)
        if math.isfinite(end)
    ]
    ticks = nice_ticks(min(means + ends), max(means + ends))
    inside = tuple(tick for tick in ticks if kind.bounds[0] <= tick <= kind.bounds[1])
    return inside if len(inside) > 1 else ticks


def share(value: float, ticks: Sequence[float]) -> float:
    """How far along its axis a value lies, 0..1; at the end where it is beyond."""
    return min(1.0, max(0.0, (value - ticks[0]) / (ticks[-1] - ticks[0])))


def svg(title: str, told: str, parts: Sequence[Html], width: int, height: int, classes: str) -> Html:
    """A drawing with its title, and with what it shows in words, for those who do not see it."""
    return tag(
        "svg",
        tag("title", title),
        tag("desc", told),
        parts,
        viewBox=f"0 0 {width} {height}",
        class_=classes,
        role="img",
        aria_label=f"{title}. {told}",
    )


def nothing() -> Html:
    """Instead of a plot."""
    return tag("p", "There is nothing to plot.", class_="missing")


def short(number: float) -> str:
    """A coordinate."""
    return f"{number:.1f}".removesuffix(".0")
