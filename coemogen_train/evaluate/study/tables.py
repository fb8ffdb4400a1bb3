"""A study's score as a JSON object and for the eye."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..intervals import Interval
from .key import StudyKey
from .scoring import ALL, Preference, Standing, StudyScore

if TYPE_CHECKING:
    from rich.table import Table


def score_dict(score: StudyScore) -> dict[str, Any]:
    """The score as plain JSON values; what is not known is null."""
    return asdict(score)


def score_parts(score: StudyScore, key: StudyKey) -> list[Table | str]:
    """Lines and tables for the terminal."""
    titles = {question.name: question.title for question in key.questions} | {ALL: "All questions together"}
    parts: list[Table | str] = [
        f"{score.answers} answers of {score.raters} raters; {len(score.dropped)} raters left out.",
        *(f"Left out: {dropped.file}, who {dropped.reason}." for dropped in score.dropped),
        _preference_table(score.preferences, titles),
        *(_order_line(titles[name], standings) for name, standings in score.order.items()),
    ]
    for accord in score.agreement:
        alpha = "" if accord.alpha is None else f", Krippendorff's alpha {accord.alpha:.2f}"
        told = (
            "no two raters saw the same" if accord.share is None else f"{accord.share:.0%} of pairs of raters"
        )
        parts.append(f"Agreement on {titles[accord.question].lower()}: {told}{alpha}.")
    if score.side_a is not None:
        parts.append(f"Of the choices, {score.side_a:.0%} fell on the side shown as A.")
    return [*parts, *(f"Note: {note}" for note in score.notes)]


def _preference_table(preferences: Sequence[Preference], titles: dict[str, str]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = "Share that prefers the first (no difference counts half), with its 95% interval"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("question", "first", "second"):
        table.add_column(heading)
    for heading in ("preferred", "answers", "raters", "pairs"):
        table.add_column(heading, justify="right")
    for told in preferences:
        decided = told.share.low > 0.5 or told.share.high < 0.5
        cells = [Text(text) for text in (titles[told.question], told.first, told.second)]
        counts = [str(number) for number in (told.answers, told.raters, told.pairs)]
        table.add_row(*cells, Text(_percent(told.share), style="bold" if decided else ""), *counts)
    return table


def _order_line(title: str, standings: Sequence[Standing]) -> str:
    told = ", ".join(
        f"{standing.method} {standing.strength.value:+.2f} ({standing.strength.low:+.2f} to "
        f"{standing.strength.high:+.2f}; first in {standing.first_share:.0%} of resamples)"
        for standing in standings
    )
    return f"Bradley-Terry order, {title.lower()}: {told}."


def _percent(interval: Interval) -> str:
    return f"{interval.value:.1%} ({interval.low:.1%} to {interval.high:.1%})"
