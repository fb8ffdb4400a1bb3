"""Emotion6: ground_truth.txt, a line per picture with valence, arousal and seven probabilities, tabs between.

The emotion is the one with strictly the highest probability.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ...emotions import EKMAN
from ...errors import DataError
from .files import readable
from .places import OUTSIDE, Places
from .record import Record, Source, SourceContext, clean_text
from .walk import folder_of, of_list

_FILE = "ground_truth.txt"
_NUMBERS = ("valence", "arousal", *EKMAN.names)
_MAX_LINE = 1 << 16


def detects(path: Path) -> bool:
    """ground_truth.txt with lines of ten fields, or the folder with it."""
    table = _table(path)
    if table is None:
        return False
    with table.open("rb") as stream:
        return stream.readline(_MAX_LINE).count(b"\t") == len(_NUMBERS)


@readable
def records(source: Path, context: SourceContext) -> Iterator[Record]:
    """Yield a record per line; a header names the columns, else they are in the documented order."""
    table = _table(source)
    if table is None:
        raise DataError(f"{source} has no {_FILE}: give the folder of Emotion6 that has one.")
    yield from of_list(_listed(table), table, source, context)


def _listed(table: Path) -> Iterator[Record]:
    """Yield what the list itself says."""
    places = Places(table.parent)
    order = _NUMBERS
    with table.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                fields = line.decode("utf-8-sig").rstrip("\r\n").split("\t")
            except UnicodeDecodeError:
                fields = []
            if fields == [""]:
                continue
            header = _header(fields) if number == 1 else None
            if header is not None:
                order = header
                continue
            yield _record(f"{table.name}, line {number}", fields, order, places)


def _header(fields: list[str]) -> tuple[str, ...] | None:
    """The columns after the path, as a header such as "[prob. anger]" calls them; None for a line of
    numbers."""
    names = [set(re.findall(r"[a-z]+", field.casefold())) for field in fields[1:]]
    found = tuple(next((n for n in _NUMBERS if n in words), "") for words in names)
    return found if sorted(found) == sorted(_NUMBERS) else None


def _record(where: str, fields: list[str], order: tuple[str, ...], places: Places) -> Record:
    if len(fields) != len(order) + 1 or not fields[0].strip():
        told = f"it has not {len(order) + 1} fields with tabs between them"
        return Record(where, None, problem=("bad_row", told))
    try:
        numbers = dict(zip(order, map(float, fields[1:]), strict=True))
    except ValueError:
        return Record(where, None, problem=("bad_row", "a field is no number"))
    chances = {name: numbers[name] for name in EKMAN.names}
    if not all(map(math.isfinite, numbers.values())) or min(chances.values()) < 0:
        return Record(where, None, problem=("bad_row", "a field is not finite, or a probability below 0"))
    written = fields[0].strip()
    path, inside = places.find(f"images/{written}", written)
    highest = max(chances.values())
    winners = [name for name, chance in chances.items() if chance == highest]
    problem = None if inside else OUTSIDE
    if inside and len(winners) > 1:
        problem = ("ambiguous", f"{highest:g} each for {', '.join(winners)}")
    said = dict(zip(order, map(clean_text, fields[1:]), strict=True))
    attributes = {name: said[name] for name in ("valence", "arousal")}
    attributes |= {f"probability_{name}": said[name] for name in EKMAN.names}
    return Record(written, path, emotion=winners[0], attributes=attributes, problem=problem)


def _table(path: Path) -> Path | None:
    table = path / _FILE if os.path.isdir(path) else path
    return table if table.name == _FILE and os.path.isfile(table) else None


EMOTION6 = Source(name="emotion6", detects=detects, root=folder_of, records=records, taxonomy="ekman")
