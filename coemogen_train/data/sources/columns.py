"""What the columns of a table, or the keys of an object, say of a picture, by whatever name they have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .record import clean_text
from .rows import text_of

NAMES: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "image_path", "file", "file_name", "filename", "path"),
    "emotion": ("emotion", "label", "class", "emotion_category"),
    "caption": ("caption", "text", "utterance", "sentence"),
    "split": ("split", "subset"),
    "id": ("id", "sample_id"),
    "scene": ("scene",),
    "objects": ("objects", "object"),
}
"""Our name of a column, and the names under which it is accepted, in any case; the first found wins."""


def columns_of(names: Iterable[Any]) -> dict[str, str]:
    """Our names of the columns that are there, and what each is called."""
    there = {str(name).strip().casefold(): name for name in names if name is not None}
    return {ours: there[c] for ours, accepted in NAMES.items() for c in reversed(accepted) if c in there}


def fields_of(cells: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a `Record` that cells tell, all but the image; other columns are attributes."""
    told: dict[str, Any] = {
        ours: text_of(_first(cells.get(columns[ours]))) if ours in columns else None
        for ours in ("caption", "split", "id", "scene")
    }
    emotion = cells.get(columns["emotion"]) if "emotion" in columns else None
    # As written, spaces too: they are trimmed and counted where labels are mapped.
    told["emotion"] = None if text_of(emotion) is None else str(emotion)
    told["objects"] = _objects(cells.get(columns["objects"])) if "objects" in columns else ()
    taken = set(columns.values())
    told["attributes"] = {
        clean_text(str(name)): text
        for name, cell in cells.items()
        if name not in taken
        and isinstance(cell, str | int | float | bool)
        and (text := text_of(cell)) is not None
    }
    return told


def _first(cell: Any) -> Any:
    """Of several captions the first."""
    return next(iter(cell), None) if isinstance(cell, list | tuple) else cell


def _objects(cell: Any) -> tuple[str, ...]:
    """A list, or names with "|" between them."""
    parts: Iterable[Any] = cell if isinstance(cell, list | tuple) else str(cell or "").split("|")
    return tuple(text for part in parts if (text := text_of(part)) is not None)
