"""`review`: a person accepts, mends or rejects captions, on a page of this machine."""

from __future__ import annotations

import sys
from enum import Enum
from typing import Annotated

import typer

from .answer import Answer
from .options import Json, SetFolder


class Show(str, Enum):
    """Which captions are shown."""

    unreviewed = "unreviewed"
    set_aside = "set-aside"
    disagree = "disagree"
    lowest = "lowest"
    all = "all"


def review(
    set_folder: SetFolder,
    show: Annotated[
        Show,
        typer.Option(
            help="Captions nobody looked at, those set aside, those that alone say another emotion, those of "
            "lowest similarity first, or all."
        ),
    ] = Show.unreviewed,
    emotion: Annotated[str | None, typer.Option(help="Only the pictures of one emotion.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
    as_json: Json = False,
) -> Answer:
    """Look at pictures and captions on a page of this machine, and accept, mend or reject them by keys.

    A verdict is on the disk as soon as it is given; the set takes all of them in when the page or Ctrl-C
    ends the review, or at the next review's start if it was killed.

    \b
    Example: coemogen_train review sets/mine --show disagree
    """
    from ..data import TrainingSet
    from ..data.review_session import review_set

    def on_open(url: str, total: int) -> None:
        print(f"{total} captions to look at: {url}", file=sys.stderr)
        print("End it there, or with Ctrl-C.", file=sys.stderr, flush=True)
        if open_page:
            import webbrowser

            webbrowser.open(url)

    counts = review_set(TrainingSet.open(set_folder), show.value, emotion, port, on_open)
    outdated = counts["outdated"]
    told = (
        f"{counts['accepted']} captions accepted, {counts['mended']} mended, {counts['rejected']} rejected."
    )
    more = [f"{outdated} verdicts were about captions that are others by now."] if outdated else []
    return Answer({"set": set_folder, **counts}, [told, *more])
