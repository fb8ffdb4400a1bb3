"""Each analysis as a part of a page: title, paragraph, plots and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...pages import Html, Section, join, page, style_sheet, tag
from ..intervals import Interval
from .content import ContentGrid
from .entry import CARRIERS, FIGURES, Carrier, Entry, Figure, Way
from .intensity import Intensity
from .plots import Level, Line, figure_table, interval_plot, panels, shade_table
from .swap import Swap
from .telling import tell_content, tell_entry, tell_intensity, tell_swap

Result = Entry | Swap | ContentGrid | Intensity
_CARRIER: dict[Carrier, str] = {"condition": "condition", "hilora": "HiLoRA", "both": "both together"}
_FIGURE: dict[Figure, str] = {
    "emotion": "emotion accuracy",
    "polarity": "polarity accuracy",
    "brightness": "brightness away from the full run's",
    "luma": "mean brightness",
}
_WAY: dict[Way, str] = {"within": "on in one stretch only", "without": "off in one stretch only"}
_ODD = {"v": "v", "words": "pseudo-words", "hilora": "HiLoRA"}
_DIAL = {"words": "pseudo-words' intensity", "hilora": "HiLoRA's strength", "both": "both together"}


def sections(results: Mapping[str, Sequence[Result]]) -> list[Section]:
    """The parts of a page.

    Arguments:
        results: by analysis ("entry", "swap", "content", "intensity") its results, one per probe, the paper's
            first; the others are told below it.
    """
    titles = {
        "entry": "When does an emotion enter?",
        "swap": "Who carries the emotion?",
        "content": "Content and emotion together",
        "intensity": "Is more of it more?",
    }
    parts = []
    for name, title in titles.items():
        if told := list(results.get(name, ())):
            beside = [_beside(result) for result in told[1:]]
            parts.append(Section(title, _paragraph(told[0]), join(_drawn(told[0]), beside)))
    return parts


def analyses_page(title: str, lead: str, results: Mapping[str, Sequence[Result]], footer: str) -> str:
    """All sections as one page without anything from elsewhere, UTF-8 text."""
    style = join(style_sheet(_EVALUATE, "report.css"), style_sheet(_EVALUATE, "analyses.css"))
    body = [join(tag("h2", part.title), tag("p", part.paragraph), part.html) for part in sections(results)]
    return page(title, style, tag("h1", title), tag("p", lead, class_="lead"), body, tag("footer", footer))


_EVALUATE = __name__.rpartition(".analyses")[0]


def _beside(result: Result) -> Html:
    summary = tag("summary", f"By the {result.probe} probe ({result.backbone})")
    return tag("details", summary, tag("p", _paragraph(result)), _drawn(result))


def _paragraph(result: Result) -> str:
    if isinstance(result, Entry):
        return tell_entry(result)
    if isinstance(result, Swap):
        return tell_swap(result)
    if isinstance(result, ContentGrid):
        return tell_content(result)
    return tell_intensity(result)


def _drawn(result: Result) -> Html:
    if isinstance(result, Entry):
        return _entry(result)
    if isinstance(result, Swap):
        return _swap(result)
    if isinstance(result, ContentGrid):
        return _content(result)
    return _intensity(result)


def _entry(result: Entry) -> Html:
    drawn = []
    ways: tuple[Way, ...] = ("within", "without")
    for figure in FIGURES:
        for way in ways:
            lines = [
                Line(
                    _CARRIER[carrier],
                    tuple(
                        ((stretch.start + stretch.end) / 2, getattr(getattr(stretch, way), figure))
                        for stretch in result.stretches
                        if stretch.carrier == carrier
                    ),
                    number,
                )
                for number, carrier in enumerate(CARRIERS)
            ]
            levels = [
                Level("all on", getattr(result.full, figure).value),
                Level("nothing on", getattr(result.nothing, figure).value),
            ]
            plot = interval_plot(
                lines, "denoising, from noise to picture", _FIGURE[figure], levels, (0.0, 1.0)
            )
            drawn.append((f"{_FIGURE[figure].capitalize()}, {_WAY[way]}", plot))
    caption = (
        f"{result.pictures} pictures a point, all from the same starts, {result.steps} steps; a point stands "
        "in the middle of its stretch. On in one stretch only: nothing of the adapter acts but this carrier, "
        "in this stretch. Off in one stretch only: all of it acts but this carrier in this stretch. Without "
        "the condition the U-Net gets the empty prompt, without HiLoRA it is bare. Brightness is a picture's "
        "mean luma, 0 to 1. Whiskers: 95% over pictures."
    )
    plots = panels(drawn, [(_CARRIER[carrier], number) for number, carrier in enumerate(CARRIERS)], caption)
    rows: list[tuple[str, Sequence[Interval | str]]] = [
        (
            f"{_CARRIER[centre.carrier]}, {_WAY[centre.way]}",
            [each or "-" for each in (centre.polarity, centre.emotion, centre.brightness, centre.later)],
        )
        for centre in result.centres
    ]
    heads = ("Centre of the effect, 0 to 1", "polarity", "emotion", "brightness", "emotion later by")
    return join(plots, figure_table(heads, rows))


def _swap(result: Swap) -> Html:
    kinds = {"own": "v and label agree", "within": "differ, one polarity", "across": "differ in polarity"}
    rows: list[tuple[str, Sequence[Interval | str]]] = [
        (
            f"{kinds[shares.pairing]} ({shares.pictures} pictures)",
            [shares.label, shares.source, shares.neither, shares.label_polarity, shares.source_polarity],
        )
        for shares in result.shares
    ]
    heads = ("The probe sees", "the label", "v's source", "neither", "label's polarity", "source's polarity")
    odd: list[tuple[str, Sequence[Interval | str]]] = [
        (f"{_ODD[one.odd]} ({one.pictures} pictures)", [one.own, one.others, one.own_polarity])
        for one in result.odd_ones
    ]
    odd_heads = ("The odd one out, across polarities", "its emotion", "the others'", "its polarity")
    shades = [
        shade_table(title, "v of", result.emotions, result.emotions, shares)
        for title, shares in (
            ("The label is seen, % of pictures", result.seen_label),
            ("v's source is seen, % of pictures", result.seen_source),
        )
    ]
    caption = f"Rows: whose Gaussians v is drawn from. Columns: the label. Pictures a cell: {result.each}."
    figure = tag("figure", tag("div", shades, class_="panels"), tag("figcaption", caption, class_="caption"))
    parts = [figure_table(heads, rows), figure_table(odd_heads, odd) if odd else None, figure]
    if result.v_alone is not None:
        of = [f"{share:.2f}" for share in result.v_alone.of.values()]
        parts.append(
            figure_table(
                ("Probe on drawn v alone", "all", *result.v_alone.of),
                [("accuracy", [result.v_alone.accuracy, *of])],
            )
        )
    return join(parts)


def _content(result: ContentGrid) -> Html:
    rows: list[tuple[str, Sequence[Interval | str]]] = [
        (
            row.title,
            [row.kept, row.hit if row.grid else "by chance", row.joint, row.surplus if row.grid else "-"],
        )
        for row in result.rows
    ]
    heads = ("", "content kept", "emotion hit", "both: joint score", "joint beyond chance")
    shades = [
        shade_table(f"Both, % of pictures: {row.title}", "", result.contents, result.emotions, row.grid)
        for row in result.rows
        if row.grid
    ]
    kept = shade_table(
        "Content kept, % of pictures",
        "",
        result.contents,
        [row.key.replace("_", " ") for row in result.rows],
        list(zip(*(row.kept_of for row in result.rows), strict=True)),
    )
    caption = (
        f"A content is kept where CLIP finds its text among the {result.top} nearest of the elements', or, "
        "of a caption, above a similarity. “By chance”: no emotion was asked for, so that one of "
        f"{len(result.emotions)} is hit. Intervals: 95% over contents and pictures."
    )
    figure = tag(
        "figure", tag("div", [*shades, kept], class_="panels"), tag("figcaption", caption, class_="caption")
    )
    return join(figure_table(heads, rows), figure)


def _intensity(result: Intensity) -> Html:
    lines = [
        Line(_DIAL[line.dial], tuple((point.intensity, point.probability) for point in line.points), number)
        for number, line in enumerate(result.lines)
    ]
    hits = [
        Line(_DIAL[line.dial], tuple((point.intensity, point.hit) for point in line.points), number)
        for number, line in enumerate(result.lines)
    ]
    drawn = [
        ("The probe's probability of the emotion", interval_plot(lines, "setting", "mean probability")),
        ("How often the probe sees it", interval_plot(hits, "setting", "share of pictures")),
    ]
    caption = "1 is as trained. The dial that is not turned stands at 1. Whiskers: 95% over starts."
    plots = panels(drawn, [(line.name, number) for number, line in enumerate(lines)], caption)
    emotions = tuple(result.lines[0].of)
    rows: list[tuple[str, Sequence[Interval | str]]] = [
        (_DIAL[line.dial], [line.rise, line.correlation, line.own, *line.of.values()])
        for line in result.lines
    ]
    heads = ("", "last less first", "rank correlation", "within a start", *emotions)
    return join(plots, figure_table(heads, rows))
