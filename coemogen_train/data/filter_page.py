"""filter.html: by which a person judges where the filter cuts. Pictures are inside it, made small."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..pages import Html, data_uri, join, page, style_sheet, tag, thumbnail
from .filter_report import EmotionVerdict, FilterReport
from .histogram import Scale, histogram
from .images import ImageProblem, load_rgb, quiet_pillow
from .pairs import Pairs
from .report import printable
from .samples import Sample

AROUND, EXTREMES = 6, 3
"""How many pairs are shown on either side of the cut, and at either end."""
_SIDE = 240
_CAPTION_LENGTH = 400
_ID_LENGTH = 60


@dataclass(frozen=True, eq=False)
class FilterFindings:
    """What the page shows. similarities, dropped, disagreed: [n], of the pairs in their order.

    blind: [n] which emotion the sentence alone says, as places in the taxonomy; None where nobody was asked.
    """

    pairs: Pairs
    similarities: np.ndarray
    dropped: np.ndarray
    disagreed: np.ndarray
    blind: np.ndarray | None
    report: FilterReport
    dry_run: bool


@dataclass(frozen=True)
class Choice:
    """The pairs of one emotion that are shown, as row numbers, all in the order of similarity."""

    lowest: tuple[int, ...]
    just_dropped: tuple[int, ...]
    just_kept: tuple[int, ...]
    highest: tuple[int, ...]
    disagreed: tuple[int, ...]


def filter_page(findings: FilterFindings) -> str:
    """The whole page, UTF-8 text; the same set and verdicts give the same bytes.

    Only the pairs that are shown are read, however large the set is.
    """
    names = findings.pairs.of.taxonomy.names
    places = [place for place, name in enumerate(names) if findings.report.emotions[name].scored]
    scale = Scale.over(findings.similarities)
    with quiet_pillow():
        sections = [_section(findings, place, names[place], scale) for place in places]
    return page(
        "What the filter dropped",
        style_sheet(__package__, "filter.css"),
        _head(findings.report, findings.dry_run),
        _table(findings.report, [(place, names[place]) for place in places]),
        sections,
        tag("footer", _encoder(findings.report.encoder)),
    )


def choose(findings: FilterFindings, place: int) -> Choice:
    """Which pairs of an emotion are shown: those around the cut, and the extremes, none of them twice."""
    own = findings.pairs.emotions == place
    judged = np.flatnonzero(own & ~findings.disagreed)
    order = judged[np.argsort(findings.similarities[judged], kind="stable")]
    cut = int(findings.dropped[order].sum())
    below, above = order[:cut], order[cut:]
    just_dropped, just_kept = below[-AROUND:], above[:AROUND]
    apart = np.flatnonzero(own & findings.disagreed)
    apart = apart[np.argsort(findings.similarities[apart], kind="stable")]
    return Choice(
        lowest=_plain(below[:-AROUND][:EXTREMES]),
        just_dropped=_plain(just_dropped),
        just_kept=_plain(just_kept),
        highest=_plain(above[AROUND:][-EXTREMES:]),
        disagreed=_plain(apart[:AROUND]),
    )


def _head(report: FilterReport, dry_run: bool) -> Html:
    how = (
        f"Of each emotion the {report.drop * 100:.10g}% of the pairs whose caption fits its picture worst."
        if report.drop
        else "Nothing: the share to drop is 0."
    )
    trial = tag("p", "A trial: nothing was marked in the set.", class_="verdict") if dry_run else None
    return join(
        tag("h1", "What the filter dropped"),
        tag("p", how, class_="lead"),
        tag("p", f"{report.sentence()}."),
        trial,
    )


def _table(report: FilterReport, shown: Sequence[tuple[int, str]]) -> Html:
    columns = ["scored", *(["disagreed"] if report.disagreed else []), "dropped", "kept"]
    head = [tag("th", name, scope="col") for name in ("emotion", *columns, "lowest kept", "mean")]
    lines = []
    for place, name in shown:
        verdict = report.emotions[name]
        numbers = [f"{getattr(verdict, column):,}" for column in columns]
        lines.append(
            tag(
                "tr",
                tag("th", tag("a", name, href=f"#e{place}"), scope="row"),
                [
                    tag("td", number)
                    for number in (*numbers, _number(verdict.lowest_kept), _number(verdict.mean))
                ],
            )
        )
    total = [tag("td", f"{getattr(report, column):,}") for column in columns]
    foot = tag("tfoot", tag("tr", tag("th", "all", scope="row"), total, tag("td"), tag("td")))
    table = tag("table", tag("thead", tag("tr", head)), tag("tbody", lines), foot, class_="counts")
    return tag("div", table, class_="scroll")


def _section(findings: FilterFindings, place: int, name: str, scale: Scale) -> Html:
    verdict = findings.report.emotions[name]
    chosen = choose(findings, place)
    cut = verdict.lowest_kept if verdict.dropped else None
    return tag(
        "section",
        tag("h2", name),
        tag("figure", _plot(findings, place, name, scale, cut), _legend(verdict)),
        _strip(findings, "Dropped last, just below the cut", chosen.just_dropped, "dropped"),
        _strip(
            findings,
            "Kept first, just above the cut" if verdict.dropped else "Fit worst",
            chosen.just_kept,
            "kept",
        ),
        tag(
            "div",
            _strip(findings, "Fit worst of all", chosen.lowest, "dropped"),
            _strip(findings, "Fit best of all", chosen.highest, "kept"),
            class_="ends",
        ),
        _strip(findings, "Their sentence alone says another emotion", chosen.disagreed, "disagreed"),
        id=f"e{place}",
    )


def _plot(findings: FilterFindings, place: int, name: str, scale: Scale, cut: float | None) -> Html:
    own = findings.pairs.emotions == place
    masks = (
        ("dropped", own & findings.dropped),
        ("kept", own & ~findings.dropped & ~findings.disagreed),
        ("disagreed", own & findings.disagreed),
    )
    title = f"How many pairs of {name} have which similarity"
    return histogram(title, scale, [(kind, findings.similarities[mask]) for kind, mask in masks], cut)


def _legend(verdict: EmotionVerdict) -> Html:
    kinds = [("dropped", verdict.dropped), ("kept", verdict.kept), ("disagreed", verdict.disagreed)]
    told = {"disagreed": "say another emotion"}
    items = [
        tag("li", tag("i", class_=kind), f"{count:,} {told.get(kind, kind)}")
        for kind, count in kinds
        if count
    ]
    return tag("ul", items, class_="legend")


def _strip(findings: FilterFindings, title: str, rows: Sequence[int], kind: str) -> Html | None:
    if not rows:
        return None
    cards = [_card(findings, row, kind) for row in rows]
    return tag("div", tag("h3", title), tag("div", cards, class_="cards"), class_="strip")


def _card(findings: FilterFindings, row: int, kind: str) -> Html:
    sample = findings.pairs.rows[row]
    similarity = f"{findings.similarities[row]:.4f}"
    said = None
    if kind == "disagreed" and findings.blind is not None:
        said = f", says {findings.pairs.of.taxonomy.names[findings.blind[row]]}"
    caption = printable(str(sample.caption), _CAPTION_LENGTH)
    return tag(
        "figure",
        _picture(sample),
        tag(
            "figcaption",
            tag("b", similarity, said),
            tag("p", caption, dir="auto"),
            tag("small", printable(sample.id, _ID_LENGTH), dir="auto"),
        ),
        class_=f"card {kind}",
    )


def _picture(sample: Sample) -> Html:
    try:
        small = thumbnail(load_rgb(sample.image, sample.sha256), _SIDE)
    except ImageProblem as problem:
        reason = "it is not there" if problem.kind == "missing" else problem.detail
        return tag("div", f"No picture: {printable(reason, _CAPTION_LENGTH)}.", class_="nothing")
    return tag("img", src=data_uri(small, "image/jpeg"), alt="")


def _encoder(name: str) -> str:
    if name.startswith("column "):
        return f"Similarities as they came with the pictures, in the {printable(name)}."
    return f"Similarity: the cosine of the embeddings of picture and caption, by the CLIP {name[:16]}."


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _plain(rows: Iterable[np.int64]) -> tuple[int, ...]:
    return tuple(int(row) for row in rows)
