"""A study's score as a JSON object and for the eye."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .key import StudyKey
from .resampling import ALL
from .results import Preference, Standing, StudyScore

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def score_dict(score: StudyScore) -> dict[str, Any]:
    """The score as plain JSON values; what is not known is null."""
    return asdict(score)


def score_parts(score: StudyScore, key: StudyKey) -> list[Table | str]:
    """Lines and tables for the terminal."""
    titles = {question.name: question.title for question in key.questions} | {ALL: "All together"}
    parts: list[Table | str] = [
        f"{score.answers} answers of {score.raters} raters; left out: {len(score.dropped) or 'nobody'}.",
        *(f"Left out: {dropped.file}, whose rater {dropped.reason}." for dropped in score.dropped),
        _preference_table(score.preferences, titles),
        _order_table(score.order, titles),
    ]
    for accord in score.agreement:
        alpha = "" if accord.alpha is None else f"; Krippendorff's alpha {accord.alpha:.2f}"
        told = (
            "no two saw the same" if accord.share is None else f"{accord.share:.0%} of pairs of raters agree"
        )
        parts.append(f"{titles[accord.question]}: {told}{alpha}.")
    if any(told.range is None for order in score.order.values() for told in order):
        parts.append(
            "An order without ranges has two methods about which all answers are alike: how far apart they "
            "may be cannot be told."
        )
    if score.side_a is not None:
        parts.append(f"Of the choices, {score.side_a:.0%} fell on the side shown as A.")
    return [*parts, *(f"Note: {note}" for note in score.notes)]


def _preference_table(preferences: Sequence[Preference], titles: Mapping[str, str]) -> Table:
    table = _table(
        "Preferred to the other (no difference counts half), with 95% intervals",
        ("question", "first", "second"),
        ("preferred", "from", "to", "answers", "pairs"),
    )
    before = ""
    for told in preferences:
        share = told.share
        shares = [f"{number:.1%}" for number in (share.value, share.low, share.high)]
        question = titles[told.question] if told.question != before else ""
        before = told.question
        cells = [question, told.first, told.second, *shares, str(told.answers), str(told.pairs)]
        decided = share.low > 0.5 or share.high < 0.5
        table.add_row(*map(_cell, cells), style="bold" if decided else "")
    return table


def _order_table(order: Mapping[str, Sequence[Standing]], titles: Mapping[str, str]) -> Table:
    table = _table(
        "Bradley-Terry order: strengths in log odds, and how often a resample has a method first",
        ("question", "method"),
        ("strength", "from", "to", "first"),
    )
    for name, standings in order.items():
        for place, told in enumerate(standings):
            ends = ["", ""] if told.range is None else [f"{told.range.low:+.2f}", f"{told.range.high:+.2f}"]
            first = "" if told.first_share is None else f"{told.first_share:.0%}"
            cells = [titles[name] if place == 0 else "", told.method, f"{told.strength:+.2f}", *ends, first]
            table.add_row(*map(_cell, cells))
    return table


def _table(title: str, words: Sequence[str], numbers: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in (*words, *numbers):
        table.add_column(heading, justify="left" if heading in words else "right")
    return table


def _cell(text: str) -> Text:
    from rich.text import Text

    return Text(text)  # as it is: a method may be called "[red]"
