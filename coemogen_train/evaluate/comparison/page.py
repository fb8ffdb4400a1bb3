"""The comparison as one HTML page: no script, no font, no picture from elsewhere, light or dark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...pages import Html, Section, data_uri, join, page, style_sheet, tag, thumbnail
from . import words
from .claims import Claims, Judged
from .dots import interval_plot
from .measures import Measure, in_order
from .plots import curves_plot, guidance_plot, has_curve, legend, tracked
from .published import SOURCE
from .result import Comparison, Row
from .tables import (
    ARROWS,
    Table,
    costs_table,
    experiments,
    measures_of,
    measures_of_the_paper,
    once,
    published_table,
    question,
    rows_of_the_paper,
)

_LEADING = ("emo_a", "emo_a_second", "fid", "coverage")
_BESIDE_GUIDANCE = ("emo_a", "coverage", "saturation", "clipped")
_PICTURE = 96
_MOST_PICTURES = 4


def comparison_page(
    comparison: Comparison,
    folder: Path,
    judged: Sequence[Judged],
    claims: Claims,
    extra: Sequence[Section] = (),
) -> str:
    """The whole page, UTF-8 text. folder: under which the rows' pictures lie."""
    tables = experiments(comparison)
    main = next(iter(tables), "")
    parts = [
        _head(comparison, judged),
        _facts(comparison),
        _main(main, tables.get(main, []), comparison),
        _curves(tables.get(main, [])),
        _claims(judged, claims, comparison),
        _intervals(tables.get(main, [])),
        [_ablation(name, rows, comparison) for name, rows in tables.items() if name != main],
        _published(comparison),
        _sheets(comparison, folder),
        _costs(comparison),
        [_section(section) for section in extra],
        tag("footer", words.FOOTER),
    ]
    # Parts that others add bring plots and tables in the look of the other pages.
    sheets = ["report.css", "analyses.css", "compare.css"] if extra else ["compare.css"]
    style = join([style_sheet(__package__.rpartition(".")[0], name) for name in sheets])
    return page(words.TITLE, style, parts)


def _head(comparison: Comparison, judged: Sequence[Judged]) -> Html:
    missing = words.unfinished(comparison)
    return join(
        tag("h1", words.TITLE),
        tag("p", comparison.world, class_="lead"),
        tag("p", words.weights(comparison), class_="verdict"),
        tag("p", words.tally(judged)) if judged else None,
        tag("p", missing, class_="missing") if missing else None,
    )


def _facts(comparison: Comparison) -> Html:
    entries = [
        *comparison.facts,
        ("protocol", comparison.protocol),
        ("emotions", ", ".join(comparison.emotions)),
    ]
    listed = [tag("div", tag("dt", what), tag("dd", value)) for what, value in entries]
    notes = [tag("p", note, class_="caption") for note in comparison.notes]
    return _part("What was compared", None, tag("dl", listed, class_="facts"), notes)


def _main(name: str, rows: Sequence[Row], comparison: Comparison) -> Html | None:
    if not rows:
        return None
    kinds = measures_of(rows)
    notes = [*words.experiment(name, rows, comparison), *words.notes(rows, kinds)]
    listed = tag("ul", [tag("li", note) for note in notes])
    told = words.intervals(comparison)
    return _part("The figures", told, _figures(rows, kinds), tag("div", listed, class_="caption"))


def _figures(rows: Sequence[Row], kinds: Sequence[Measure]) -> Html:
    """Rows by metrics, each cell a mean over its interval."""
    heads = [tag("th", kind.title + ARROWS[kind.better], scope="col") for kind in kinds]
    lines = []
    for row in rows:
        cells = []
        for kind in kinds:
            figure = row.metrics.get(kind.name)
            interval = kind.interval(figure) if figure is not None else ""
            written = kind.written(figure.mean) if figure is not None else "\N{EN DASH}"
            cells.append(tag("td", written, tag("small", interval) if interval else None))
        note = tag("small", row.note) if row.note else None
        lines.append(tag("tr", tag("th", row.title, note, scope="row"), cells, class_=row.kind))
    head = tag("thead", tag("tr", tag("th", "Row", scope="col"), heads))
    return _scrolling(tag("table", head, tag("tbody", lines), class_="figures"), "Figures, with intervals")


def _plain(table: Table, name: str) -> Html:
    heads = [tag("th", head, scope="col") for head in table.heads]
    lines = [
        tag("tr", tag("th", cells[0], scope="row"), [tag("td", cell) for cell in cells[1:]], class_=kind)
        for cells, kind in zip(table.rows, table.kinds, strict=True)
    ]
    drawn = tag("table", tag("thead", tag("tr", heads)), tag("tbody", lines), class_="figures plain")
    return _scrolling(drawn, name)


def _scrolling(table: Html, name: str) -> Html:
    """A table that a narrow screen scrolls, by keyboard too."""
    return tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=name)


def _curves(rows: Sequence[Row]) -> Html | None:
    methods = [row for row in rows if row.kind != "ablation"]
    ablations = [row for row in rows if row.kind != "baseline"]
    panels = [
        _curve_panel(title, chosen)
        for title, chosen, own in (
            ("The methods", methods, "baseline"),
            ("The full method and its parts taken away", ablations, "ablation"),
        )
        if any(has_curve(row, "coverage", "emo_a") for row in chosen)
        and any(row.kind == own for row in tracked(chosen, "coverage", "emo_a"))
    ]
    if not panels and any(has_curve(row, "coverage", "emo_a") for row in rows):
        panels = [_curve_panel("All rows", rows)]
    if not panels:
        return None
    return _part("Accuracy against coverage", words.CURVES, tag("div", panels, class_="tracks"))


def _curve_panel(title: str, rows: Sequence[Row]) -> Html:
    shown = tracked(rows, "coverage", "emo_a")
    return tag("div", tag("h3", title), curves_plot(shown), legend(shown), class_="panel")


def _intervals(rows: Sequence[Row]) -> Html | None:
    kinds = measures_of(rows)
    return _part("Each figure over the rows", words.DOTS, _dots(rows, kinds)) if kinds else None


def _dots(rows: Sequence[Row], kinds: Sequence[Measure]) -> Html:
    panels = [
        tag("div", tag("h3", kind.title + ARROWS[kind.better]), interval_plot(rows, kind), class_="panel")
        for kind in kinds
    ]
    return tag("div", panels, class_="panels")


def _claims(judged: Sequence[Judged], claims: Claims, comparison: Comparison) -> Html | None:
    if not judged:
        return None
    groups: dict[str, list[Judged]] = {}
    untested = [entry for entry in judged if entry.verdict == "not tested"]
    for entry in judged:
        if entry.verdict != "not tested":
            groups.setdefault(entry.claim.group, []).append(entry)
    parts = [
        join(
            tag("h3", group) if group else None,
            tag("ul", [_claim(entry) for entry in entries], class_="claims"),
        )
        for group, entries in groups.items()
    ]
    rest = tag(
        "details",
        tag("summary", f"{len(untested)} claims of rows that are not in this run"),
        tag("ul", [_claim(entry) for entry in untested], class_="claims"),
    )
    text = words.claims(claims, judged, comparison)
    return _part("What was claimed, and what the data says", text, parts, rest if untested else None)


def _claim(entry: Judged) -> Html:
    return tag(
        "li",
        tag("span", entry.verdict, class_=f"mark {entry.verdict.replace(' ', '-')}"),
        tag("div", tag("b", entry.claim.sentence), tag("p", entry.sentence)),
    )


def _ablation(name: str, rows: Sequence[Row], comparison: Comparison) -> Html:
    kinds = measures_of(rows)
    leading = [kind for kind in kinds if kind.name in _LEADING] or kinds[:2]
    curved = [kind for kind in in_order(_BESIDE_GUIDANCE) if any(has_curve(row, kind.name) for row in rows)]
    panels = [
        tag(
            "div",
            tag("h3", f"{kind.title} against guidance"),
            guidance_plot(rows, kind.name),
            legend([row for row in rows if has_curve(row, kind.name)]),
            class_="panel",
        )
        for kind in curved
    ]
    title = f"Experiment: {name.replace('_', ' ')}"
    return _part(
        title,
        question(name),
        _figures(rows, kinds),
        [tag("p", note, class_="caption") for note in words.experiment(name, rows, comparison)],
        _dots(rows, leading),
        tag("div", panels, class_="panels") if panels else None,
    )


def _published(comparison: Comparison) -> Html | None:
    rows = rows_of_the_paper(comparison)
    if not rows:
        return None
    ours = _figures(rows, measures_of_the_paper())
    here = tag("section", tag("h3", "This run"), ours, class_="panel")
    there = tag("section", tag("h3", "The paper"), _plain(published_table(), "The paper"), class_="panel")
    note = tag("p", SOURCE, class_="caption")
    return _part("Beside the published figures", words.beside(comparison), there, note, here)


def _sheets(comparison: Comparison, folder: Path) -> Html | None:
    rows = once(row for row in comparison.rows if row.sheet)
    if not rows:
        return None
    figures = [_sheet(row, comparison.emotions, folder) for row in rows.values()]
    return _part("What the rows draw", words.SHEETS, tag("div", figures, class_="sheets"))


def _sheet(row: Row, emotions: Sequence[str], folder: Path) -> Html:
    cells = []
    for emotion in emotions:
        mosaic = _mosaic([folder / name for name in row.sheet.get(emotion, ())][:_MOST_PICTURES])
        drawn = (
            tag("img", src=data_uri(mosaic, "image/jpeg"), alt=f"{row.title}: {emotion}")
            if mosaic is not None
            else tag("span", "none", class_="missing")
        )
        cells.append(tag("div", drawn, tag("span", emotion)))
    return tag("figure", tag("figcaption", row.title), tag("div", cells, class_="strip"), class_=row.kind)


def _mosaic(files: Sequence[Path]) -> bytes | None:
    """Up to four pictures in one, as JPEG; None where none can be read."""
    from PIL import Image

    pictures = []
    for file in files:
        try:
            with Image.open(file) as picture:
                square = picture.convert("RGB").resize((_PICTURE, _PICTURE), Image.Resampling.LANCZOS)
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
        pictures.append(square)
    if not pictures:
        return None
    columns = 1 if len(pictures) == 1 else 2
    lines = -(-len(pictures) // columns)
    together = Image.new("RGB", (columns * _PICTURE, lines * _PICTURE), (128, 128, 128))
    for number, square in enumerate(pictures):
        together.paste(square, (number % columns * _PICTURE, number // columns * _PICTURE))
    return thumbnail(together, max(together.size), quality=85)


def _costs(comparison: Comparison) -> Html | None:
    rows = [*once(row for row in comparison.rows if row.kind != "reference").values()]
    return _part("What it cost", words.COSTS, _plain(costs_table(rows), "Costs")) if rows else None


def _section(section: Section) -> Html:
    return _part(section.title, section.paragraph, section.html)


def _part(title: str, paragraph: str | None, *body: object) -> Html:
    lead = tag("p", paragraph) if paragraph else None
    return tag("section", tag("h2", title), lead, *body)  # type: ignore[arg-type]
