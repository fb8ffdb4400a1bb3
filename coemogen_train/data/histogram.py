"""A histogram of similarities with the filter's cut, as inline SVG in the page's colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..pages import Html, nice_ticks, tag

WIDTH, HEIGHT = 640, 150
LEFT, RIGHT, TOP, BOTTOM = 10, 10, 20, 24
_BINS = 64


@dataclass(frozen=True)
class Scale:
    """The horizontal axis, the same for all emotions, so that they can be compared."""

    low: float
    high: float

    @classmethod
    def over(cls, values: np.ndarray) -> Scale:
        """An axis for [n] values, without the lowest in two hundred, which fall into the first bin."""
        low, high = (float(end) for end in np.quantile(values, [0.005, 1.0]))
        pad = (high - low) * 0.02 or max(abs(high), 1.0) * 0.02
        return cls(low - pad, high + pad)

    @property
    def ticks(self) -> list[float]:
        """Round numbers along it."""
        return [tick for tick in nice_ticks(self.low, self.high) if self.low <= tick <= self.high]

    def edges(self, through: float | None) -> np.ndarray:
        """The limits of the bins; one of them is `through`, so that no bin lies astride it."""
        edges = np.linspace(self.low, self.high, _BINS + 1)
        if through is None or not self.low < through < self.high:
            return edges
        step = edges[1] - edges[0]
        moved = edges + (through - self.low) % step
        inside = np.concatenate([moved[:1] - step, moved])
        inside[np.abs(inside - through).argmin()] = through  # exactly: sums of steps are not
        return inside

    def x(self, value: float) -> float:
        """Where a value stands."""
        share = min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)
        return LEFT + (WIDTH - LEFT - RIGHT) * share


def histogram(title: str, scale: Scale, layers: Sequence[tuple[str, np.ndarray]], cut: float | None) -> Html:
    """Bars of stacked counts, from the ground up, and a line at the cut.

    layers: (class of the bars, [n] values). cut: the lowest similarity that is kept, None where none is
    dropped.
    """
    edges = scale.edges(cut)
    bins = len(edges) - 1
    counts = [(name, np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]) for name, values in layers]
    top = max(1, int(np.sum([count for _, count in counts], axis=0).max()))
    ground = HEIGHT - BOTTOM
    unit = (ground - TOP) / top
    marks: list[Html] = [tag("title", title)]
    reached = np.zeros(bins, dtype=np.int64)
    for name, count in counts:
        for at in np.flatnonzero(count).tolist():
            x, following = scale.x(float(edges[at])), scale.x(float(edges[at + 1]))
            y = ground - unit * float(reached[at] + count[at])
            marks.append(
                tag(
                    "rect",
                    x=_n(x + 0.5),
                    y=_n(y),
                    width=_n(max(following - x - 1, 1)),
                    height=_n(unit * float(count[at])),
                    class_=name,
                )
            )
        reached += count
    marks.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=ground, y2=ground, class_="ground"))
    for tick in scale.ticks:
        marks.append(_text(scale.x(tick), HEIGHT - 7, f"{tick:g}", "tick"))
    if cut is not None:
        x = scale.x(cut)
        marks.append(tag("line", x1=_n(x), x2=_n(x), y1=TOP - 4, y2=ground, class_="cut"))
        marks.append(_text(x, 11, f"{cut:.4f}", "axis"))
    box = f"0 0 {WIDTH} {HEIGHT}"
    return tag("svg", marks, viewBox=box, class_="plot histogram", role="img", aria_label=title)


def _text(x: float, y: float, text: str, name: str) -> Html:
    # At the ends a centred label would leave the picture.
    anchor = "start" if x < LEFT + 25 else "end" if x > WIDTH - RIGHT - 25 else "middle"
    return tag("text", text, x=_n(x), y=_n(y), class_=name, text_anchor=anchor)


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
