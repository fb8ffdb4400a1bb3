"""The pictures below a folder, in the order of their names, and the caption files beside them."""

from __future__ import annotations

import os
import unicodedata
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

from ..formats import is_picture_name
from ..images import looks_like_image
from .places import read_small
from .record import Record, SourceContext, clean_text

CAPTION_SUFFIXES = (".txt", ".caption")
"""Endings of caption files, in the order in which they are looked for."""

_MAX_CAPTION_BYTES = 1 << 20


def pictures_below(
    folder: Path, source: Path, context: SourceContext, lists: Collection[Path] = ()
) -> Iterator[Record]:
    """Yield a record, without emotion, of everything below `folder` that is or should be a picture.

    Names are relative to `source`. A link that leads out of `source` is a problem: what it shows may change
    or not be meant. Other files are counted, but for the source's own `lists`; the
    set itself is left out.
    """
    top = source.resolve()
    for path, name, caption in _walk(folder, source, context, lists):
        is_link = os.path.islink(path)
        if is_link and not _below(path, top):
            yield Record(name, path, problem=("outside", "it is a link to another place"))
        elif is_link and os.path.isdir(path):
            # Their pictures are met, if at all, where they really are.
            yield Record(name, path, problem=("not_a_file", "it is a link to a folder"))
        elif caption is None:
            yield Record(name, path)
        elif os.path.islink(caption) and not _below(caption, top):
            yield Record(name, path, notes=("unreadable_caption",))
        else:
            yield Record(name, path, beside=(caption,))


def with_caption(record: Record) -> Record:
    """Read the caption file beside a picture of `pictures_below`."""
    if record.problem is not None or not record.beside:
        return record
    return captioned(record, record.beside[0])


def captioned(record: Record, file: Path) -> Record:
    """Give a picture the text of `file`, which is UTF-8, on one line; or note why it has none."""
    try:
        text = clean_text(read_small(file, _MAX_CAPTION_BYTES).decode("utf-8-sig"))
    except (OSError, ValueError):  # a UnicodeDecodeError is a ValueError
        return replace(record, notes=(*record.notes, "unreadable_caption"))
    if not text:
        return replace(record, notes=(*record.notes, "empty_caption"))
    return replace(record, caption=text)


def _walk(
    folder: Path, source: Path, context: SourceContext, lists: Collection[Path]
) -> Iterator[tuple[Path, str, Path | None]]:
    """Yield what may be pictures, with their names and caption files, and count the other files."""
    out = context.out.resolve()
    known = {(str(path.parent), path.name) for path in lists}

    def unreadable(error: OSError) -> None:
        context.tally.note("unreadable_folders", str(error.filename))

    for parent, folders, files in os.walk(folder, onerror=unreadable):
        here = Path(parent)
        files = [name for name in files if (parent, name) not in known]
        linked = [name for name in folders if os.path.islink(here / name)]
        below = here.relative_to(source).as_posix()
        prefix = "" if below == "." else f"{below}/"
        own = sorted(name for name in folders if name not in linked and (here / name).resolve() != out)
        folders[:] = [name for name in own if not name.startswith(".")]
        for name in own:
            if name.startswith(".") and _has_pictures(here / name):
                context.tally.note("hidden_files", f"{prefix}{name}/")
        captions = {name for name in files if name.endswith(CAPTION_SUFFIXES) and not name.startswith(".")}
        for name in sorted(files + linked):
            path = here / name
            shown = f"{prefix}{name}"
            if name.startswith("."):
                context.tally.note("hidden_files", shown)
            elif name in linked or is_picture_name(path) or (name not in captions and looks_like_image(path)):
                yield path, shown, _caption_of(path, captions)
            elif name not in captions:
                context.tally.note("other_files", shown)
        _count_stray(captions, files, prefix, context)


def _has_pictures(folder: Path) -> bool:
    return any(is_picture_name(Path(name)) for _, _, files in os.walk(folder) for name in files)


def _caption_of(picture: Path, captions: set[str]) -> Path | None:
    """1.txt for 1.jpg, or else 1.jpg.txt."""
    if not captions:
        return None
    names = [stem + suffix for stem in (picture.stem, picture.name) for suffix in CAPTION_SUFFIXES]
    return next((picture.with_name(name) for name in names if name in captions), None)


def _count_stray(captions: set[str], files: list[str], prefix: str, context: SourceContext) -> None:
    """Count the text files that are no picture's caption."""
    if not captions:
        return
    others = [name for name in files if name not in captions]
    owners = {*others, *(Path(name).stem for name in others)}
    for name in sorted(captions):
        if Path(name).stem not in owners:
            context.tally.note("other_files", f"{prefix}{name}")


def _below(path: Path, top: Path) -> bool:
    try:
        return path.resolve().is_relative_to(top)
    except (OSError, RuntimeError):  # a link that leads to itself
        return False


class Listed:
    """The pictures that a source's lists named: eight bytes for each, so that any number fits."""

    def __init__(self) -> None:
        self._marks = array("Q")
        self._sorted = True

    def add(self, path: Path) -> None:
        """Remember a picture."""
        self._marks.append(_mark(path))
        self._sorted = False

    def __contains__(self, path: Path) -> bool:
        if not self._sorted:
            self._marks = array("Q", sorted(self._marks))
            self._sorted = True
        mark = _mark(path)
        place = bisect_left(self._marks, mark)
        return place < len(self._marks) and self._marks[place] == mark


def _mark(path: Path) -> int:
    # On a Mac a list and a folder may compose the umlauts of one name differently.
    composed = unicodedata.normalize("NFC", os.path.normcase(os.path.normpath(path)))
    name = composed.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "big")


def folder_of(source: Path) -> Path:
    """The folder that a data set's list lies in; the source is the list or that folder."""
    return source if source.is_dir() else source.parent


def of_list(records: Iterator[Record], table: Path, source: Path, context: SourceContext) -> Iterator[Record]:
    """The records of a list, and if its folder was meant, the pictures in it that the list does not name."""
    if source == table:  # it alone was meant: its folder may hold anything
        return records
    return then_unlisted(records, source, source, context, [table])


def then_unlisted(
    records: Iterable[Record],
    folder: Path,
    source: Path,
    context: SourceContext,
    lists: Collection[Path] = (),
) -> Iterator[Record]:
    """Yield the records of a source's `lists`, then a problem for every picture below `folder` that none of
    them names, so that none is lost unsaid."""
    listed = Listed()
    for record in records:
        if isinstance(record.image, Path):
            listed.add(record.image)
        yield record
    for record in pictures_below(folder, source, context, lists):
        if isinstance(record.image, Path) and record.image not in listed:
            told = record.problem or ("unlisted", "no list of the source names it")
            yield replace(record, problem=told, beside=(), notes=())
