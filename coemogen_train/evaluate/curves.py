"""Small plots as inline SVG: loss curves, accuracy against coverage, an interval in a table's cell.

Drawn by hand, so that a report needs no plotting library and takes its colours from the page, light or dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..pages import Html, nice_ticks, tag

WIDTH, HEIGHT = 520, 260
LEFT, RIGHT, TOP, BOTTOM = 72, 14, 16, 44
MOST_POINTS = 400
Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """A quantity over training: steps [n] rising, values [n]; a value that is not finite leaves a gap."""

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.steps) != len(self.values):
            raise ValueError(f"curve {self.name!r}: {len(self.steps)} steps and {len(self.values)} values")


@dataclass(frozen=True)
class Track:
    """Labelled points joined in order: (x, y, label)."""

    name: str
    points: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True)
class _Frame:
    """The box of a plot, and where a value falls in it."""

    x_ticks: tuple[float, ...]
    y_ticks: tuple[float, ...]

    def x(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * _share(value, self.x_ticks[0], self.x_ticks[-1])

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * _share(value, self.y_ticks[0], self.y_ticks[-1])


def loss_curve(curve: Curve, number: int = 0) -> Html:
    """One curve: every logged value thin, the moving mean of a twentieth of the run thick.

    Args:
        curve: what to draw.
        number: which of the page's colours to take.
    """
    pairs = [(s, v) for s, v in zip(curve.steps, curve.values, strict=True) if math.isfinite(v)]
    if not pairs:
        return tag("p", f"{curve.name}: no finite value was logged.", class_="missing")
    window = max(1, len(curve.values) // 20)
    smooth = moving_mean(curve.values, window)
    shown = [v for v in smooth if math.isfinite(v)] + _without_extremes([v for _, v in pairs])
    frame = _Frame(
        _ends((curve.steps[0], curve.steps[-1])),
        nice_ticks(min(0.0, min(shown)) if min(shown) < 0.35 * max(shown) else min(shown), max(shown)),
    )
    thin = _runs(curve.steps, curve.values, frame)
    thick = _runs(curve.steps, smooth, frame)
    return _figure(
        f"{curve.name} over training steps",
        frame,
        "step",
        curve.name,
        [_path(run, f"thin c{number % 6}") for run in thin],
        [_path(run, f"thick c{number % 6}") for run in thick],
        x_labels=_step_labels(frame),
    )


def tracks_plot(tracks: Sequence[Track], x_name: str, y_name: str) -> Html:
    """Tracks in one plot, each point with its label; colours in their order, for the caller's legend."""
    points = [point for track in tracks for point in track.points]
    if not points:
        return tag("p", "There is nothing to plot.", class_="missing")
    frame = _Frame(
        nice_ticks(min(p[0] for p in points), max(p[0] for p in points)),
        nice_ticks(min(p[1] for p in points), max(p[1] for p in points)),
    )
    marks = []
    for number, track in enumerate(tracks):
        colour = f"c{number % 6}"
        placed = [(frame.x(x), frame.y(y)) for x, y, _ in track.points]
        marks.append(_path(placed, f"thick {colour}"))
        for (x, y), (_, _, label) in zip(placed, track.points, strict=True):
            marks.append(tag("circle", cx=_n(x), cy=_n(y), r=4, class_=f"dot {colour}"))
            marks.append(tag("text", label, x=_n(x + 8), y=_n(y + 14), class_="mark"))
    return _figure(f"{y_name} against {x_name}", frame, x_name, y_name, marks)


def interval_mark(value: float, low: float | None, high: float | None, kind: str) -> Html:
    """A dot with whiskers on a scale from 0 to 1, for a cell of a table."""
    width, middle = 132, 9

    def place(share: float) -> float:
        return 4 + (width - 8) * min(1.0, max(0.0, share))

    marks = [tag("line", x1=4, x2=width - 4, y1=middle, y2=middle, class_="scale")]
    if low is not None and high is not None:
        marks.append(
            tag("line", x1=_n(place(low)), x2=_n(place(high)), y1=middle, y2=middle, class_="whisker")
        )
    marks.append(tag("circle", cx=_n(place(value)), cy=middle, r=3.5, class_="dot"))
    return tag(
        "svg",
        marks,
        viewBox=f"0 0 {width} {2 * middle}",
        width=width,
        height=2 * middle,
        class_=f"interval {kind}",
        aria_hidden="true",
    )


def moving_mean(values: Sequence[float], window: int) -> list[float]:
    """Centred moving mean of the finite values; narrower at the ends; NaN where the window has none."""
    sums, counts = [0.0], [0]
    for value in values:
        finite = math.isfinite(value)
        sums.append(sums[-1] + (value if finite else 0.0))
        counts.append(counts[-1] + finite)
    means = []
    for place in range(len(values)):
        half = min(
            window // 2, place, len(values) - 1 - place
        )  # symmetric, or the ends would be pulled sideways
        low, high = place - half, place + half + 1
        count = counts[high] - counts[low]
        means.append((sums[high] - sums[low]) / count if count else math.nan)
    return means


def _figure(
    title: str,
    frame: _Frame,
    x_name: str,
    y_name: str,
    *marks: Sequence[Html],
    x_labels: Sequence[float] | None = None,
) -> Html:
    parts: list[Html] = [tag("title", title)]
    for tick in frame.y_ticks:
        y = frame.y(tick)
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=_n(y), y2=_n(y), class_="grid"))
        parts.append(tag("text", f"{tick:g}", x=LEFT - 8, y=_n(y + 4), class_="tick", text_anchor="end"))
    for tick in frame.x_ticks if x_labels is None else x_labels:
        parts.append(
            tag(
                "text",
                f"{tick:g}",
                x=_n(frame.x(tick)),
                y=HEIGHT - BOTTOM + 18,
                class_="tick",
                text_anchor="middle",
            )
        )
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        tag(
            "text",
            x_name,
            x=_n((LEFT + WIDTH - RIGHT) / 2),
            y=HEIGHT - 6,
            class_="axis",
            text_anchor="middle",
        )
    )
    parts.append(
        tag(
            "text",
            y_name,
            x=14,
            y=_n(middle),
            class_="axis",
            text_anchor="middle",
            transform=f"rotate(-90 14 {_n(middle)})",
        )
    )
    return tag(
        "svg", parts, marks, viewBox=f"0 0 {WIDTH} {HEIGHT}", class_="plot", role="img", aria_label=title
    )


def _runs(steps: Sequence[int], values: Sequence[float], frame: _Frame) -> list[list[Point]]:
    """Stretches of finite values in plot coordinates, at most `MOST_POINTS` in all, kept inside the box."""
    stride = max(1, math.ceil(len(values) / MOST_POINTS))
    runs: list[list[Point]] = [[]]
    for start in range(0, len(values), stride):
        finite = [v for v in values[start : start + stride] if math.isfinite(v)]
        if not finite:
            runs.append([])
            continue
        value = sum(finite) / len(finite)
        inside = min(max(value, frame.y_ticks[0]), frame.y_ticks[-1])
        middle = steps[start : start + stride]
        runs[-1].append((frame.x(sum(middle) / len(middle)), frame.y(inside)))
    return [run for run in runs if run]


def _path(points: Sequence[Point], classes: str) -> Html:
    corners = " L".join(f"{_n(x)} {_n(y)}" for x, y in points)
    return tag("path", d=f"M{corners}", class_=classes)


def _without_extremes(values: Sequence[float]) -> list[float]:
    """The values between the 1st and the 99th percentile: one wild step shall not flatten the rest."""
    ordered = sorted(values)
    cut = len(ordered) // 100
    return ordered[cut : len(ordered) - cut]


def _ends(steps: tuple[int, int]) -> tuple[float, float]:
    first, last = float(steps[0]), float(steps[1])
    return (first, last) if last > first else (first - 1, last + 1)


def _step_labels(frame: _Frame) -> list[float]:
    first, last = frame.x_ticks[0], frame.x_ticks[-1]
    return [tick for tick in nice_ticks(first, last) if first <= tick <= last]


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low)


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
