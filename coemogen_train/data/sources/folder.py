"""A folder of pictures sorted by emotion: SOURCE/awe/1.jpg, SOURCE/train/awe/1.jpg, or deeper."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ...emotions import Taxonomy
from ...errors import TaxonomyError
from ..formats import is_picture_name
from ..images import looks_like_image
from ..splits import split_named
from .record import Record, Source, SourceContext


def records(source: Path, context: SourceContext) -> Iterator[Record]:
    """Yield every picture below `source`, folders and files in the order of their names.

    The emotion is the first folder on the way to the picture that names one, the split a folder before it
    called train, val or test. A link that leads out of `source` is a problem: what it shows may change or not
    be meant.
    """
    top = source.resolve()
    for path in _walk(source, context):
        inner = path.relative_to(source)
        name = inner.as_posix()
        if path.is_symlink() and not _below(path, top):
            yield Record(name, path, problem=("outside", "it is a link to another place"))
        elif path.is_dir():
            # Only links to folders arrive here: their pictures are met, if at all, where they really are.
            yield Record(name, path, problem=("not_a_file", "it is a link to a folder"))
        else:
            emotion, split = _labels(inner.parts[:-1], context.taxonomy)
            yield Record(name, path, emotion=emotion, split=split)


def _walk(source: Path, context: SourceContext) -> Iterator[Path]:
    """Yield what may be pictures, and count the other files; the set itself is left out."""
    out = context.out.resolve()

    def unreadable(error: OSError) -> None:
        context.tally.note("unreadable_folders", str(error.filename))

    for folder, folders, files in os.walk(source, onerror=unreadable):
        here = Path(folder)
        linked = [name for name in folders if (here / name).is_symlink()]
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in linked and (here / name).resolve() != out
        )
        for name in sorted(files + linked):
            path = here / name
            shown = path.relative_to(source).as_posix()
            if name.startswith("."):
                context.tally.note("hidden_files", shown)
            elif name in linked or is_picture_name(path) or looks_like_image(path):
                yield path
            else:
                context.tally.note("other_files", shown)


def _below(path: Path, top: Path) -> bool:
    try:
        return path.resolve().is_relative_to(top)
    except (OSError, RuntimeError):  # a link that leads to itself
        return False


def _labels(folders: tuple[str, ...], taxonomy: Taxonomy) -> tuple[str | None, str | None]:
    """Return (emotion, split) as the folders say them; an unknown emotion as the first folder is called."""
    split = None
    rest = list(folders)
    if rest and (found := split_named(rest[0])) is not None:
        split = found
        rest.pop(0)
    for name in rest:
        try:
            taxonomy.index(name)
            return name, split
        except TaxonomyError:
            continue
    return (rest[0] if rest else None), split


FOLDER = Source(name="folder", detects=Path.is_dir, root=lambda source: source, records=records)
