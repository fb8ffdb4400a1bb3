"""A folder of pictures sorted by emotion: SOURCE/awe/1.jpg, SOURCE/train/awe/1.jpg, or deeper.

A caption file beside a picture (1.txt or 1.caption for 1.jpg) is its caption, and a folder may begin with a
number of repeats (10_awe), as the trainers of LoRAs have it. `PICTURES` is the same without emotions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from ...emotions import Taxonomy
from ..splits import split_named
from .files import readable
from .record import Record, Source, SourceContext
from .walk import pictures_below, with_caption

_REPEATS = re.compile(r"\d+_(?=.)")


@readable
def records(source: Path, context: SourceContext) -> Iterator[Record]:
    """Yield every picture below `source`, folders and files in the order of their names.

    The emotion is the first folder on the way to the picture that names one, the split a folder before it
    called train, val or test.
    """
    told_by = lru_cache(maxsize=1024)(lambda folders: labels_of(folders, context.taxonomy))
    for record in pictures_below(source, source, context):
        emotion, split = told_by(tuple(record.name.split("/")[:-1]))
        yield replace(record, emotion=emotion, split=split)


@readable
def unlabelled(source: Path, context: SourceContext) -> Iterator[Record]:
    """Yield every picture below `source` without an emotion, its split as the first folder says."""
    for record in pictures_below(source, source, context):
        yield replace(record, split=split_named(record.name.partition("/")[0]))


def labels_of(folders: tuple[str, ...], taxonomy: Taxonomy) -> tuple[str | None, str | None]:
    """Return (emotion, split) as the folders say them; an unknown emotion as the first folder is called."""
    split = None
    rest = list(folders)
    if rest and (found := split_named(rest[0])) is not None:
        split = found
        rest.pop(0)
    names = [_REPEATS.sub("", name, count=1) if _REPEATS.match(name) else name for name in rest]
    resembling = None
    for name in names:
        match = taxonomy.forgiving_index(name)
        if match is not None and match[1]:
            return name, split
        if match is not None and resembling is None:
            resembling = name
    return resembling or (names[0] if names else None), split


FOLDER = Source(
    name="folder",
    detects=Path.is_dir,
    root=lambda source: source,
    records=records,
    complete=with_caption,
)
PICTURES = Source(
    name="pictures",
    detects=lambda source: False,  # nothing tells them from a folder whose emotions were misspelt
    root=lambda source: source,
    records=unlabelled,
    complete=with_caption,
)
