"""EmoSet-118K: image/<emotion>/<name>.jpg, annotation/<emotion>/<name>.json, and a list per split.

Rows of train.json, val.json and test.json are documented as [emotion, id, image, annotation] and released as
[emotion, image, annotation]; both are read. Without any list the folders of image/ tell the emotion. Caption
files that somebody put beside the pictures are read too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..splits import split_named
from .files import files_in, readable
from .folder import labels_of
from .json_stream import iterate_json
from .places import OUTSIDE, Places, read_small
from .record import Record, Source, SourceContext, clean_text
from .walk import CAPTION_SUFFIXES, captioned, pictures_below, then_unlisted

_IMAGES, _ANNOTATIONS = "image", "annotation"
_SPLITS = ("train", "val", "test")
_MAX_ANNOTATION_BYTES = 1 << 20
_TEXTS = ("facial_expression", "human_action")
_NUMBERS = ("brightness", "colorfulness")


def detects(path: Path) -> bool:
    """A folder with image/, and a list of a split, annotation/ or info.json beside it."""
    if not os.path.isdir(path / _IMAGES):
        return False
    return bool(_lists(path)) or os.path.isdir(path / _ANNOTATIONS) or os.path.isfile(path / "info.json")


@readable
def records(source: Path, context: SourceContext) -> Iterator[Record]:
    """Yield the rows of the lists, train before val before test, then the pictures that none of them has."""
    lists = _lists(source)
    if not lists:
        yield from _without_lists(source, context)
        return
    places = Places(source)
    listed = (
        _record(f"{table.name}, row {number}", row, split, places)
        for table, split in lists
        for number, row in _rows(table)
    )
    yield from then_unlisted(listed, source / _IMAGES, source, context)


def complete(record: Record) -> Record:
    """Add what a picture's annotation says (scene, objects, the rest as attributes), and its caption file.

    A list's emotion is believed where the annotation has another one.
    """
    if record.problem is not None:
        return record
    for path in record.beside:
        if path.suffix not in CAPTION_SUFFIXES:
            record = _completed(record, path)
        elif record.caption is None and os.path.lexists(path):
            record = _noted(record, "unreadable_caption") if os.path.islink(path) else captioned(record, path)
    return record


def _completed(record: Record, annotation: Path) -> Record:
    try:
        found = json.loads(read_small(annotation, _MAX_ANNOTATION_BYTES).decode("utf-8-sig"))
    except FileNotFoundError:
        return _noted(record, "missing_annotation")
    except (OSError, ValueError, RecursionError):
        return _noted(record, "broken_annotation")
    if not isinstance(found, dict):
        return _noted(record, "broken_annotation")
    return _annotated(record, found)


def _annotated(record: Record, found: dict[str, Any]) -> Record:
    texts = {key: _text(found.get(key)) for key in (*_TEXTS, "scene", "emotion")}
    attributes = {key: text for key in _TEXTS if (text := texts[key]) is not None}
    attributes |= {key: str(found[key]) for key in _NUMBERS if _is_number(found.get(key))}
    objects = found.get("object")
    names = objects if isinstance(objects, list) else [objects]
    wrong = [key for key in texts if found.get(key) is not None and not isinstance(found[key], str)]
    wrong += [key for key in _NUMBERS if found.get(key) is not None and not _is_number(found[key])]
    wrong += ["object" for name in names if name is not None and not isinstance(name, str)]
    if wrong:
        record = _noted(record, "broken_annotation")
    if texts["emotion"] and texts["emotion"].casefold() != clean_text(record.emotion or "").casefold():
        record = _noted(record, "annotation_disagrees")
    return replace(
        record,
        scene=texts["scene"],
        objects=tuple(text for name in names if (text := _text(name)) is not None),
        attributes=attributes,
    )


def _lists(source: Path) -> list[tuple[Path, str]]:
    """The lists of the splits, in the order of _SPLITS: validation.json counts as val.json."""
    found = [(str(split), path) for path in files_in(source, (".json",)) if (split := split_named(path.stem))]
    found.sort(key=lambda pair: (_SPLITS.index(pair[0]), pair[1].name))
    return [(path, split) for split, path in found]


def _rows(table: Path) -> Iterator[tuple[int, Any]]:
    """Yield the rows of a list with their numbers, from 1; where it breaks off, an error as the last."""
    number = 0
    try:
        for number, row in enumerate(iterate_json(table), start=1):
            yield number, row
    except (ValueError, OSError) as error:
        yield number + 1, error


def _record(where: str, row: Any, split: str, places: Places) -> Record:
    if isinstance(row, Exception):
        told = f"the list breaks off here, and the rest is not counted ({clean_text(str(row))[:200]})"
        return Record(where, None, problem=("bad_row", told))
    if not isinstance(row, list) or len(row) not in (3, 4):
        return Record(where, None, problem=("bad_row", "it has not three or four fields"))
    emotion, image, annotation = row[0], row[-2], row[-1]
    if not isinstance(emotion, str) or not isinstance(image, str) or not image.strip():
        return Record(where, None, problem=("bad_row", "its emotion or its image is no text"))
    path, inside = places.find(image)
    if not inside:
        return Record(image, path, emotion=emotion, split=split, problem=OUTSIDE)
    record = Record(name=image, image=path, emotion=emotion, split=split)
    return _with_annotation(record, annotation if isinstance(annotation, str) else "", places)


def _without_lists(source: Path, context: SourceContext) -> Iterator[Record]:
    images = source / _IMAGES
    places = Places(source)
    for record in pictures_below(images, source, context):
        inner = Path(record.name).relative_to(_IMAGES)
        emotion, _ = labels_of(inner.parts[:-1], context.taxonomy)
        labelled = replace(record, emotion=emotion, notes=())
        yield _with_annotation(labelled, (_ANNOTATIONS / inner.with_suffix(".json")).as_posix(), places)


def _with_annotation(record: Record, written: str, places: Places) -> Record:
    """Put the annotation file beside a picture, and where its captions would be.

    An annotation that lies elsewhere is as good as none.
    """
    assert isinstance(record.image, Path)  # noqa: S101 - pictures of this format are files
    captions = tuple(record.image.with_suffix(suffix) for suffix in CAPTION_SUFFIXES)
    path, inside = places.find(written)
    if not written.strip() or not inside:
        return replace(record, beside=captions, notes=("missing_annotation",))
    return replace(record, beside=(path, *captions))


def _noted(record: Record, note: str) -> Record:
    return record if note in record.notes else replace(record, notes=(*record.notes, note))


def _text(value: Any) -> str | None:
    return clean_text(value) or None if isinstance(value, str) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


EMOSET = Source(
    name="emoset", detects=detects, root=lambda source: source, records=records, complete=complete
)
