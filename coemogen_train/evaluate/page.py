"""The report as one HTML page: no script, no font, no picture from elsewhere, light or dark."""

from __future__ import annotations

from collections.abc import Callable

from ..pages import Html, data_uri, join, page, style_sheet, tag
from .captions import (
    comparison_verdict,
    confusion_caption,
    curves_caption,
    duration,
    guidance_caption,
    metrics_captions,
    shown,
)
from .curves import Track, interval_mark, loss_curve, tracks_plot
from .report import Confusion, DemoReport, Row


def report_page(report: DemoReport) -> str:
    """The whole page, UTF-8 text."""
    sections = (_head, _tiles, _sheet, _metrics, _guidance, _confusions, _curves, _stages, _settings, _footer)
    style = style_sheet(__package__, "report.css")
    return page(report.title, style, [section(report) for section in sections])


def _head(report: DemoReport) -> Html:
    verdict = tag("p", comparison_verdict(report), class_="verdict") if report.comparison else None
    return join(tag("h1", report.title), tag("p", report.introduction, class_="lead"), verdict)


def _tiles(report: DemoReport) -> Html | None:
    if report.comparison is None:
        return None
    first, second = report.row(report.comparison.first), report.row(report.comparison.second)
    gain = report.comparison.gain
    tiles = [
        _tile(
            f"{gain.value:+.2f}",
            "emotion accuracy gained",
            f"95% interval {gain.low:+.2f} to {gain.high:+.2f}",
        ),
        _tile(shown(first.emo_a), "emotion accuracy", f"{shown(second.emo_a)} for {second.name}"),
        _tile(
            shown(first.coverage, 1),
            "narratives reached per emotion" + (f", of {first.coverage_of:g}" if first.coverage_of else ""),
            f"{shown(second.coverage, 1)} for {second.name}",
        ),
        _tile(
            shown(first.story),
            "of pictures tell a story of their emotion",
            f"{shown(second.story)} for {second.name}",
        ),
    ]
    return tag("div", tiles, class_="tiles")


def _tile(figure: str, label: str, beside: str) -> Html:
    return tag("div", tag("b", figure), tag("span", label), tag("span", beside), class_="tile")


def _sheet(report: DemoReport) -> Html | None:
    if report.sheet is None:
        return None
    caption = report.sheet_caption or "Rows are emotions, groups of columns are methods."
    data = data_uri(report.sheet, "image/png")
    picture = tag("img", src=data, alt=f"Sample sheet. {caption}", class_="sheet")
    return join(
        tag("h2", "What it makes"), tag("figure", picture, tag("figcaption", caption, class_="caption"))
    )


_Cell = Callable[[Row], Html]


def _metrics(report: DemoReport) -> Html:
    columns: list[tuple[str, str, _Cell]] = [("Emotion accuracy", "up", _accuracy_cells)]
    if any(row.coverage is not None for row in report.rows):
        columns.append(("Coverage", "up", _coverage_cell))
    optional: tuple[tuple[str, str, str, int], ...] = (
        ("Story", "up", "story", 2),
        ("Fr\N{LATIN SMALL LETTER E WITH ACUTE}chet", "down", "frechet", 2),
        ("Diversity", "", "diversity", 2),
        ("Guidance", "", "guidance", 1),
        ("Pictures", "", "n", 0),
    )
    for heading, better, field, digits in optional:
        if any(getattr(row, field) is not None for row in report.rows):
            columns.append((heading, better, _figure_cell(field, digits)))
    headings = [
        tag("th", heading, scope="col", class_=better or None, colspan=3 if number == 0 else None)
        for number, (heading, better, _) in enumerate(columns)
    ]
    lines = [
        tag(
            "tr",
            tag("th", row.name, tag("small", row.note) if row.note else None, scope="row"),
            [cell(row) for _, _, cell in columns],
            class_=row.kind,
        )
        for row in report.rows
    ]
    table = tag(
        "table",
        tag("thead", tag("tr", tag("th", "Method", scope="col"), headings)),
        tag("tbody", lines),
        class_="metrics",
    )
    notes = tag("ul", [tag("li", note) for note in metrics_captions(report)])
    return join(
        tag("h2", "The figures"), tag("div", table, class_="scroll"), tag("div", notes, class_="caption")
    )


def _accuracy_cells(row: Row) -> Html:
    ranged = row.low is not None and row.high is not None
    drawn = interval_mark(row.emo_a, row.low, row.high, row.kind) if row.emo_a is not None else None
    interval = f"{shown(row.low)} to {shown(row.high)}" if ranged else ""
    return join(
        tag("td", shown(row.emo_a)), tag("td", drawn, class_="drawn"), tag("td", interval, class_="range")
    )


def _coverage_cell(row: Row) -> Html:
    of = (
        tag("span", f" of {row.coverage_of:g}", class_="of")
        if row.coverage is not None and row.coverage_of
        else None
    )
    return tag("td", shown(row.coverage, 1), of)


def _figure_cell(field: str, digits: int) -> _Cell:
    return lambda row: tag("td", shown(getattr(row, field), digits))


def _guidance(report: DemoReport) -> Html | None:
    if not report.guidance_points:
        return None
    methods = list(dict.fromkeys(point.method for point in report.guidance_points))
    tracks = [
        Track(
            method,
            tuple(
                (p.coverage, p.emo_a, f"{p.guidance:g}") for p in report.guidance_points if p.method == method
            ),
        )
        for method in methods
    ]
    legend = [tag("li", tag("i", class_=f"c{number % 6}"), method) for number, method in enumerate(methods)]
    plot = tracks_plot(tracks, "narratives reached per emotion", "emotion accuracy")
    return join(
        tag("h2", "Accuracy against variety"),
        tag(
            "figure",
            tag("div", plot, tag("ul", legend, class_="legend"), class_="panel alone"),
            tag("figcaption", guidance_caption(), class_="caption"),
        ),
    )


def _confusions(report: DemoReport) -> Html | None:
    if not report.confusions:
        return None
    panels = [tag("div", tag("h3", c.row), _heat_table(c), class_="panel") for c in report.confusions]
    return join(
        tag("h2", "What the probe sees in what was meant"),
        tag(
            "figure",
            tag("div", panels, class_="panels"),
            tag("figcaption", confusion_caption(), class_="caption"),
        ),
    )


def _heat_table(confusion: Confusion) -> Html:
    headings = [tag("th", tag("span", name), scope="col") for name in confusion.names]
    lines = []
    for number, (name, counts) in enumerate(zip(confusion.names, confusion.counts, strict=True)):
        total = sum(counts)
        shares = [count / total if total else 0.0 for count in counts]
        cells = [
            _heat_cell(share, count, number == place)
            for place, (share, count) in enumerate(zip(shares, counts, strict=True))
        ]
        right = f"{counts[number]} of {total}"
        lines.append(tag("tr", tag("th", name, scope="row"), cells, tag("td", right, class_="sum")))
    head = tag("thead", tag("tr", tag("th"), headings, tag("th", tag("span", "right"), scope="col")))
    return tag("table", head, tag("tbody", lines), class_="heat")


def _heat_cell(share: float, count: int, right: bool) -> Html:
    classes = " ".join(
        name for name, on in (("right", right), ("hot", share > 0.72), ("none", count == 0)) if on
    )
    return tag("td", count, class_=classes or None, style=f"--share:{share:.3f}")


def _curves(report: DemoReport) -> Html | None:
    if not report.curves:
        return None
    panels = [
        tag("div", tag("h3", c.name), loss_curve(c, n), class_="panel") for n, c in enumerate(report.curves)
    ]
    return join(
        tag("h2", "How the training went"),
        tag(
            "figure",
            tag("div", panels, class_="panels"),
            tag("figcaption", curves_caption(), class_="caption"),
        ),
    )


def _stages(report: DemoReport) -> Html | None:
    if not report.stages:
        return None
    total = sum(stage.seconds for stage in report.stages)
    longest = max(stage.seconds for stage in report.stages) or 1.0
    lines = [
        tag(
            "tr",
            tag("th", stage.name, scope="row"),
            tag("td", tag("i", style=f"--share:{stage.seconds / longest:.3f}"), class_="track"),
            tag("td", duration(stage.seconds)),
        )
        for stage in report.stages
    ]
    foot = tag("tfoot", tag("tr", tag("th", "Together", scope="row"), tag("td"), tag("td", duration(total))))
    table = tag("table", tag("tbody", lines), foot, class_="stages")
    caption = tag("p", "Wall-clock time on the machine that made this page.", class_="caption")
    return join(tag("h2", "Where the time went"), tag("div", table, class_="scroll"), caption)


def _settings(report: DemoReport) -> Html | None:
    if not report.settings:
        return None
    cards = [
        tag(
            "div",
            tag("h3", heading),
            tag("dl", [join(tag("dt", name), tag("dd", value)) for name, value in entries]),
            class_="panel",
        )
        for heading, entries in report.settings
    ]
    return join(tag("h2", "Settings"), tag("div", cards, class_="settings"))


def _footer(report: DemoReport) -> Html | None:
    return tag("footer", report.footer) if report.footer else None
