"""EmoArt-130k: Annotation.json, and the pictures of each style, once its archive is unpacked.

The label and the rest stand nested in a description; paths have backslashes. The picture of
"Images\\Gongbi\\001.jpg" lies there, or in Gongbi, where the archive puts it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from ...errors import DataError
from .files import files_in, readable
from .json_stream import iterate_json
from .places import OUTSIDE, Places
from .record import Record, Source, SourceContext, clean_text
from .walk import folder_of, of_list

# Long texts tell of the whole work; an attribute is a word or a phrase.
_MAX_ATTRIBUTE = 200
_ATTRIBUTES = {
    "emotional_valence": "valence",
    "emotional_arousal_level": "arousal",
    "healing_effects": "healing_effects",
    "emotional_impact": "emotional_impact",
    "description": "description",
}
_PACKED = (".tar.gz",)
_VISUAL = ("brushstroke", "color", "composition", "light_and_shadow", "line_quality")


def detects(path: Path) -> bool:
    """Annotation.json, or the folder with it, whose first record has image_path and description."""
    table = _annotation(path)
    if table is None:
        return False
    try:
        first = next(islice(iterate_json(table), 1), None)
    except ValueError:
        return False
    return isinstance(first, dict) and {"image_path", "description"} <= set(first)


@readable
def records(source: Path, context: SourceContext) -> Iterator[Record]:
    """Yield a record per annotated work, in the file's order; the file is read as a stream."""
    table = _annotation(source)
    if table is None:
        raise DataError(f"{source} has no Annotation.json: give the folder of EmoArt that has one.")
    yield from of_list(_listed(table), table, source, context)


def _listed(table: Path) -> Iterator[Record]:
    """Yield what the list itself says."""
    places = Places(table.parent)
    packed = _Archives(table.parent)
    number = 0
    try:
        for number, value in enumerate(iterate_json(table), start=1):
            yield _record(f"{table.name}, record {number}", value, places, packed)
    except ValueError as error:
        told = f"the file breaks off here, and the rest is not counted ({clean_text(str(error))[:200]})"
        yield Record(f"{table.name}, record {number + 1}", None, problem=("bad_row", told))


class _Archives:
    """The archives that are not unpacked, by style: there are some fifty."""

    def __init__(self, folder: Path):
        places = (folder, folder / "Images", folder / "images")
        found = [path for place in places for path in files_in(place, _PACKED)]
        self._by_style = {path.name.removesuffix(".tar.gz"): path.name for path in sorted(found)}

    def of(self, *names: str) -> str | None:
        """The archive that is called as one of `names`, or Images, which has all styles."""
        return next((self._by_style[n] for n in (*names, "Images", "images") if n in self._by_style), None)


def _record(where: str, value: Any, places: Places, packed: _Archives) -> Record:
    if not isinstance(value, dict) or not isinstance(value.get("image_path"), str):
        return Record(where, None, problem=("bad_row", "it has no image_path"))
    written = value["image_path"].strip().replace("\\", "/")
    if not written:
        return Record(where, None, problem=("bad_row", "its image_path is empty"))
    folders = written.split("/")
    without_images = "/".join(folders[1:]) if len(folders) > 2 else written
    path, inside = places.find(written, without_images)
    if not inside:
        return Record(written, path, problem=OUTSIDE)
    style = folders[-2] if len(folders) > 1 else ""
    archive = None if os.path.exists(path) else packed.of(style)
    if archive is not None:
        return Record(written, path, problem=("packed", f"it is still in {archive}"))
    sections = _sections(value.get("description"))
    emotion = sections.get("dominant_emotion")
    return Record(
        name=written,
        image=path,
        emotion=emotion if isinstance(emotion, str) else None,
        attributes=_attributes(sections, style),
    )


def _sections(description: Any) -> dict[str, Any]:
    """The fields of the three sections side by side; what is not nested as documented is left out."""
    fields: dict[str, Any] = {}
    for name in ("first_section", "second_section", "third_section"):
        section = description.get(name) if isinstance(description, dict) else None
        fields |= section if isinstance(section, dict) else {}
    visual = fields.get("visual_attributes")
    return {**fields, **(visual if isinstance(visual, dict) else {})}


def _attributes(fields: Mapping[str, Any], style: str) -> dict[str, str]:
    wanted = {**_ATTRIBUTES, **{name: name for name in _VISUAL}}
    told = {ours: _short(fields.get(theirs)) for theirs, ours in wanted.items()}
    told["style"] = _short(style)
    return {name: text for name, text in told.items() if text}


def _short(value: Any) -> str:
    values = value if isinstance(value, list) else [value]
    text = clean_text(", ".join(part for part in values if isinstance(part, str)))
    return text if len(text) <= _MAX_ATTRIBUTE else ""


def _annotation(path: Path) -> Path | None:
    if os.path.isdir(path):
        names = ("Annotation.json", "annotation.json")
        return next((path / name for name in names if os.path.isfile(path / name)), None)
    return path if path.suffix.lower() == ".json" and os.path.isfile(path) else None


EMOART = Source(name="emoart", detects=detects, root=folder_of, records=records, taxonomy="emoart")
