"""ArtEmis: a CSV with a row per utterance on a painting of WikiArt, several for each.

A painting is one sample. Its emotion is the one with strictly the most votes, "something else" being a vote
as well; its caption the first utterance of those who felt so.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...errors import DataError
from .files import files_in, readable
from .grouping import grouped
from .places import OUTSIDE, Places
from .record import Record, Source, SourceContext, clean_text
from .rows import csv_header, read_csv
from .walk import folder_of, of_list

_COLUMNS = ("art_style", "painting", "emotion", "utterance")


def detects(path: Path) -> bool:
    """A CSV file with the columns of ArtEmis, or a folder with one."""
    return _table(path) is not None


@readable
def records(source: Path, context: SourceContext) -> Iterator[Record]:
    """Yield a record per painting in the order of their first rows, and one per row that cannot be read.

    Rows of a painting need not stand together: they are brought together on disk.
    """
    table = _table(source)
    if table is None:
        raise DataError(f"{source} is no CSV of ArtEmis: it needs the columns {', '.join(_COLUMNS)}.")
    yield from of_list(_listed(table), table, source, context)


def _listed(table: Path) -> Iterator[Record]:
    """Yield what the list itself says."""
    places = Places(table.parent)
    for key, votes in grouped(_votes(table)):
        style, _, painting = key.partition("\n")
        if not painting:
            for number, told in votes:
                yield Record(f"{table.name}, row {number}", None, problem=("bad_row", told))
        else:
            yield _record(style, painting, votes, places)


def _votes(table: Path) -> Iterator[tuple[str, list[Any]]]:
    """Yield (style and painting, [emotion, utterance, split]) per row; ("", [number, fault]) for bad ones."""
    for number, cells in read_csv(table, None):
        if isinstance(cells, str):
            yield "", [number, cells]
            continue
        named = {str(name).strip().casefold(): str(cell) for name, cell in cells.items()}
        style, painting, emotion, utterance = (clean_text(named[column]) for column in _COLUMNS)
        if not painting or not emotion:
            yield "", [number, "it names no painting or no emotion"]
        else:
            yield f"{style}\n{painting}", [emotion, utterance, clean_text(named.get("split", ""))]


def _record(style: str, painting: str, votes: Sequence[Sequence[str]], places: Places) -> Record:
    # Styles and paintings become parts of a path: neither brings a folder of its own.
    name = f"wikiart/{style}/{painting}.jpg"
    if any(mark in part for mark in "/\\" for part in (style, painting)) or ".." in (style, painting):
        return Record(name, None, problem=OUTSIDE)
    path, inside = places.find(name, f"{style}/{painting}.jpg", f"images/{style}/{painting}.jpg")
    counts = Counter(emotion.casefold() for emotion, _, _ in votes)
    attributes = {"art_style": style, **{f"votes_{e}": str(n) for e, n in sorted(counts.items())}}
    (winner, most), *others = counts.most_common()
    problem = None if inside else OUTSIDE
    if inside and others and others[0][1] == most:
        tied = ", ".join(sorted(emotion for emotion, count in counts.items() if count == most))
        problem = ("ambiguous", f"{most} votes each for {tied}")
    said = (text for emotion, text, _ in votes if emotion.casefold() == winner and text)
    return Record(
        name=name,
        image=path,
        emotion=next(emotion for emotion, _, _ in votes if emotion.casefold() == winner),
        caption=next(said, None),
        split=votes[0][2] or None,
        attributes=attributes,
        problem=problem,
    )


def _table(path: Path) -> Path | None:
    tables = files_in(path, (".csv",)) if os.path.isdir(path) else [path]
    return next((t for t in tables if t.suffix.lower() == ".csv" and set(_COLUMNS) <= csv_header(t)), None)


ARTEMIS = Source(name="artemis", detects=detects, root=folder_of, records=records)
