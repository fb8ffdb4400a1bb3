"""The plots of a comparison as inline SVG: curves of accuracy against coverage, and over guidance.

Colours are the page's (`templates/compare.css`), chosen so that colour-blind readers tell them apart; tracks
differ by the shape of their points as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...pages import Html, nice_ticks, tag
from .axes import nothing, share, short, svg, ticks_of
from .measures import measure
from .result import CurvePoint, Estimate, Row

SHAPES = 8
"""Shapes and colours that there are; more tracks begin again."""
_WIDTH, _HEIGHT = 720, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 20, 16, 52


@dataclass(frozen=True)
class _Axes:
    """A box, and where a value falls in it; what lies outside the ticks is drawn at the edge."""

    x_ticks: tuple[float, ...]
    y_ticks: tuple[float, ...]

    def x(self, value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * share(value, self.x_ticks)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share(value, self.y_ticks)


def has_curve(row: Row, *metrics: str) -> bool:
    """Whether a row was drawn at several scales, with these figures at some of them."""
    return len(row.curve) > 1 and bool(_points(row, metrics))


def curves_plot(rows: Sequence[Row], x: str = "coverage", y: str = "emo_a") -> Html:
    """One figure against another over guidance: a track per row, its scales beside its points, intervals both
    ways, a ring around the scale that was chosen for it; a reference, or a row that was drawn at one scale
    alone, is a single point.

    Args:
        rows: those that have these figures; the others are left out.
        x, y: metrics.
    """
    kinds = measure(x), measure(y)
    tracks = [(row, _track(row, x, y)) for row in tracked(rows, x, y)]
    points = [point for _, track in tracks for point in track]
    if not points:
        return nothing()
    axes = _Axes(
        ticks_of([p.metrics[x] for p in points], kinds[0]), ticks_of([p.metrics[y] for p in points], kinds[1])
    )
    marks = _marked(axes, [(row, [(p, p.metrics[x], p.metrics[y]) for p in track]) for row, track in tracks])
    title = f"{kinds[1].title} against {kinds[0].title}"
    told = "; ".join(_track_told(row, track, x, y) for row, track in tracks)
    return _figure(title, told, axes, kinds[0].title, kinds[1].title, marks)


def guidance_plot(rows: Sequence[Row], metric: str) -> Html:
    """A figure against the guidance scale: a track per row that was drawn at several."""
    kind = measure(metric)
    tracks = [(row, _points(row, (metric,))) for row in rows if has_curve(row, metric)]
    points = [point for _, track in tracks for point in track]
    if not points:
        return nothing()
    scales = [point.guidance for point in points]
    axes = _Axes(nice_ticks(min(scales), max(scales)), ticks_of([p.metrics[metric] for p in points], kind))
    marks = _marked(
        axes,
        [
            (row, [(p, Estimate(p.guidance, p.guidance, p.guidance), p.metrics[metric]) for p in track])
            for row, track in tracks
        ],
        scales=False,
    )
    told = "; ".join(
        f"{row.title}: " + ", ".join(f"{p.guidance:g} {kind.told(p.metrics[metric])}" for p in track)
        for row, track in tracks
    )
    return _figure(f"{kind.title} against guidance", told, axes, "guidance scale", kind.title, marks)


def legend(rows: Sequence[Row]) -> Html:
    """The rows of a plot of tracks, each with its mark; give the rows that the plot was given."""
    entries = [
        tag(
            "li",
            tag(
                "svg",
                _mark(number, 9.0, 9.0, row),
                viewBox="0 0 18 18",
                width=18,
                height=18,
                class_=f"key {_colour(number, row)}",
                aria_hidden="true",
            ),
            row.title,
        )
        for number, row in enumerate(rows)
    ]
    return tag("ul", entries, class_="legend")


def tracked(rows: Sequence[Row], *metrics: str) -> list[Row]:
    """The rows that a plot of these metrics shows."""
    return [row for row in rows if has_curve(row, *metrics) or _is_point(row, *metrics)]


_Placed = tuple[CurvePoint, Estimate, Estimate]


def _marked(axes: _Axes, tracks: Sequence[tuple[Row, Sequence[_Placed]]], scales: bool = True) -> list[Html]:
    """Tracks, ours last and so on top: whiskers, line, points, the scales beside them."""
    marks = []
    for number, (row, track) in sorted(enumerate(tracks), key=lambda entry: entry[1][0].kind == "ours"):
        parts: list[Html] = []
        for _, x, y in track:
            parts += _whiskers(axes, x, y)
        places = [(axes.x(x.mean), axes.y(y.mean)) for _, x, y in track]
        if len(places) > 1:
            corners = " L".join(f"{short(px)} {short(py)}" for px, py in places)
            parts.append(tag("path", d=f"M{corners}", class_="track"))
        for (point, _, _), (px, py) in zip(track, places, strict=True):
            if row.guidance is not None and point.guidance == row.guidance and scales and len(track) > 1:
                parts.append(tag("circle", cx=short(px), cy=short(py), r=10, class_="best"))
            parts.append(_mark(number, px, py, row))
            if scales and len(track) > 1:
                parts.append(
                    tag("text", f"{point.guidance:g}", x=short(px + 9), y=short(py - 8), class_="scale")
                )
        marks.append(tag("g", tag("title", row.title), parts, class_=_colour(number, row)))
    return marks


def _whiskers(axes: _Axes, x: Estimate, y: Estimate) -> list[Html]:
    px, py = axes.x(x.mean), axes.y(y.mean)
    found = []
    if math.isfinite(x.low) and x.low < x.high:
        found.append((axes.x(x.low), axes.x(x.high), py, py))
    if math.isfinite(y.low) and y.low < y.high:
        found.append((px, px, axes.y(y.low), axes.y(y.high)))
    return [
        tag("line", x1=short(x1), x2=short(x2), y1=short(y1), y2=short(y2), class_="whisker")
        for x1, x2, y1, y2 in found
    ]


def _mark(number: int, x: float, y: float, row: Row) -> Html:
    """A point in the shape of its track."""
    if row.kind == "ours":
        return tag("circle", cx=short(x), cy=short(y), r=6, class_="dot")
    if row.kind == "reference":
        return tag("path", d=_polygon(x, y, 8.0, 10, 0.45), class_="dot")
    shapes = ((4, 0.0), (3, 0.0), (4, 45.0), (3, 180.0), (5, 0.0), (6, 30.0))
    sides, turned = shapes[number % len(shapes)]
    return tag("path", d=_polygon(x, y, 6.5, sides, 1.0, turned), class_="dot")


def _polygon(x: float, y: float, radius: float, corners: int, inner: float, turned: float = 0.0) -> str:
    """A polygon, or a star where every second corner lies further in."""
    places = []
    for corner in range(corners):
        angle = math.radians(turned - 90 + 360 * corner / corners)
        reach = radius * (inner if corner % 2 else 1.0)
        places.append(f"{short(x + reach * math.cos(angle))} {short(y + reach * math.sin(angle))}")
    return f"M{' L'.join(places)}Z"


def _colour(number: int, row: Row) -> str:
    if row.kind in ("ours", "reference"):
        return f"track-{row.kind}"
    return f"track-{number % SHAPES}"


def _is_point(row: Row, *metrics: str) -> bool:
    """Whether a row has these figures, and no curve."""
    return len(row.curve) < 2 and all(
        name in row.metrics and math.isfinite(row.metrics[name].mean) for name in metrics
    )


def _points(row: Row, metrics: Sequence[str]) -> list[CurvePoint]:
    """The points of a row's curve that have all of these figures, in the order of guidance."""
    found = [
        point
        for point in row.curve
        if all(name in point.metrics and math.isfinite(point.metrics[name].mean) for name in metrics)
    ]
    return sorted(found, key=lambda point: point.guidance)


def _track(row: Row, x: str, y: str) -> list[CurvePoint]:
    if has_curve(row, x, y):
        return _points(row, (x, y))
    return [CurvePoint(math.nan if row.guidance is None else row.guidance, row.metrics)]


def _track_told(row: Row, track: Sequence[CurvePoint], x: str, y: str) -> str:
    """A track in words, for those who do not see it."""
    places = [
        (f"guidance {p.guidance:g}: " if math.isfinite(p.guidance) else "")
        + f"{measure(x).written(p.metrics[x].mean)}, {measure(y).written(p.metrics[y].mean)}"
        for p in track
    ]
    return f"{row.title}: {'; '.join(places)}"


def _figure(title: str, told: str, axes: _Axes, x_name: str, y_name: str, marks: Sequence[Html]) -> Html:
    parts: list[Html] = []
    for tick in axes.y_ticks:
        y = short(axes.y(tick))
        parts.append(tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", f"{tick:g}", x=_LEFT - 10, y=short(axes.y(tick) + 4), text_anchor="end"))
    for tick in axes.x_ticks:
        x = short(axes.x(tick))
        parts.append(tag("line", x1=x, x2=x, y1=_TOP, y2=_HEIGHT - _BOTTOM, class_="grid"))
        parts.append(tag("text", f"{tick:g}", x=x, y=_HEIGHT - _BOTTOM + 20, text_anchor="middle"))
    centre, middle = (_LEFT + _WIDTH - _RIGHT) / 2, (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(tag("text", x_name, x=short(centre), y=_HEIGHT - 8, class_="axis", text_anchor="middle"))
    turned = f"rotate(-90 16 {short(middle)})"
    parts.append(
        tag("text", y_name, x=16, y=short(middle), class_="axis", text_anchor="middle", transform=turned)
    )
    return svg(title, told, [*parts, *marks], _WIDTH, _HEIGHT, "plot curves")
