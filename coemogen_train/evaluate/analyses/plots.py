"""Plots and tables of the analyses: points with whiskers over a line, and shares as shades."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...pages import Html, nice_ticks, tag
from ..curves import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH
from ..intervals import Interval

Place = Callable[[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """Points (x, interval of y) joined in order; colour: which of the page's six."""

    name: str
    points: tuple[tuple[float, Interval], ...]
    colour: int = 0


@dataclass(frozen=True)
class Level:
    """A dashed line across the plot: what a figure is where nothing is varied."""

    name: str
    value: float


def interval_plot(
    lines: Sequence[Line],
    x_name: str,
    y_name: str,
    levels: Sequence[Level] = (),
    x_ends: tuple[float, float] | None = None,
) -> Html:
    """Lines with an interval at each point, over dashed levels.

    x_ends: of the axis, where it shall reach beyond the points.
    """
    points = [point for line in lines for point in line.points]
    if not points:
        return tag("p", "There is nothing to plot.", class_="missing")
    xs = [x for x, _ in points] if x_ends is None else list(x_ends)
    ys = [end for _, y in points for end in (y.low, y.high, y.value)] + [level.value for level in levels]
    x_ticks, y_ticks = nice_ticks(min(xs), max(xs)), nice_ticks(min(0.0, *ys), max(ys))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        upward = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return LEFT + (WIDTH - LEFT - RIGHT) * across, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * upward

    marks = _axes(x_ticks, y_ticks, place, x_name, y_name)
    for level in levels:
        (left, y), (right, _) = place(x_ticks[0], level.value), place(x_ticks[-1], level.value)
        marks.append(_stroke(left, y, right, y, "level"))
    # Whiskers of lines over one another would hide each other: each line's stand a little beside.
    for number, line in enumerate(lines):
        shift = 3.0 * (number - (len(lines) - 1) / 2)
        corners = [(place(x, y.value)[0] + shift, place(x, y.value)[1]) for x, y in line.points]
        path = "M" + " L".join(f"{_n(x)} {_n(y)}" for x, y in corners)
        marks.append(tag("path", d=path, class_=f"thick c{line.colour % 6}"))
        for (x, y), (_, interval) in zip(corners, line.points, strict=True):
            low, high = place(0.0, interval.low)[1], place(0.0, interval.high)[1]
            marks.append(_stroke(x, low, x, high, f"whisker c{line.colour % 6}"))
            marks.append(tag("circle", cx=_n(x), cy=_n(y), r=3.5, class_=f"dot c{line.colour % 6}"))
    for level in levels:
        right, y = place(x_ticks[-1], level.value)
        marks.append(
            tag("text", level.name, x=_n(right - 4), y=_n(y - 5), class_="level-name", text_anchor="end")
        )
    title = f"{y_name} against {x_name}"
    return tag(
        "svg",
        tag("title", title),
        marks,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        class_="plot",
        role="img",
        aria_label=title,
    )


def panels(drawn: Sequence[tuple[str, Html]], lines: Sequence[tuple[str, int]], caption: str) -> Html:
    """Plots side by side under their titles, one legend (name, colour) and one caption for all of them."""
    legend = [tag("li", tag("i", class_=f"c{colour % 6}"), name) for name, colour in lines]
    return tag(
        "figure",
        tag(
            "div",
            [tag("div", tag("h3", title), plot, class_="panel") for title, plot in drawn],
            class_="panels",
        ),
        tag("ul", legend, class_="legend") if len(lines) > 1 else None,
        tag("figcaption", caption, class_="caption"),
    )


def shade_table(
    title: str, corner: str, rows: Sequence[str], columns: Sequence[str], shares: Sequence[Sequence[float]]
) -> Html:
    """Shares 0 to 1 as percentages on shades; corner: what rows and columns are."""
    heads = [tag("th", tag("span", name), scope="col") for name in columns]
    lines = [
        tag("tr", tag("th", name, scope="row"), [_shade(share) for share in line])
        for name, line in zip(rows, shares, strict=True)
    ]
    head = tag("thead", tag("tr", tag("th", corner, scope="col"), heads))
    return tag(
        "div", tag("h3", title), tag("table", head, tag("tbody", lines), class_="heat"), class_="panel"
    )


def figure_table(heads: Sequence[str], rows: Sequence[tuple[str, Sequence[Interval | str]]]) -> Html:
    """A line a row: its name, then figures with their intervals."""
    lines = [
        tag("tr", tag("th", name, scope="row"), [_figure(figure) for figure in figures])
        for name, figures in rows
    ]
    head = tag("thead", tag("tr", [tag("th", name, scope="col") for name in heads]))
    return tag("div", tag("table", head, tag("tbody", lines), class_="metrics"), class_="scroll")


def _figure(figure: Interval | str) -> Html:
    if isinstance(figure, str):
        return tag("td", figure)
    range_ = tag("small", f"{figure.low:.2f} to {figure.high:.2f}")
    return tag("td", f"{figure.value:.2f}", range_)


def _shade(share: float) -> Html:
    classes = " ".join(name for name, on in (("hot", share > 0.72), ("none", share == 0)) if on)
    return tag("td", f"{100 * share:.0f}", class_=classes or None, style=f"--share:{share:.3f}")


def _axes(
    x_ticks: Sequence[float], y_ticks: Sequence[float], place: Place, x_name: str, y_name: str
) -> list[Html]:
    parts = []
    for tick in y_ticks:
        y = place(x_ticks[0], tick)[1]
        parts.append(_stroke(LEFT, y, WIDTH - RIGHT, y, "grid"))
        parts.append(tag("text", f"{tick:g}", x=LEFT - 8, y=_n(y + 4), class_="tick", text_anchor="end"))
    for tick in x_ticks:
        x = place(tick, y_ticks[0])[0]
        below = HEIGHT - BOTTOM + 18
        parts.append(tag("text", f"{tick:g}", x=_n(x), y=below, class_="tick", text_anchor="middle"))
    centre, middle = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    turn = f"rotate(-90 14 {_n(middle)})"
    parts.append(tag("text", x_name, x=_n(centre), y=HEIGHT - 6, class_="axis", text_anchor="middle"))
    parts.append(tag("text", y_name, x=14, y=_n(middle), class_="axis", text_anchor="middle", transform=turn))
    return parts


def _stroke(x1: float, y1: float, x2: float, y2: float, classes: str) -> Html:
    return tag("line", x1=_n(x1), y1=_n(y1), x2=_n(x2), y2=_n(y2), class_=classes)


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
