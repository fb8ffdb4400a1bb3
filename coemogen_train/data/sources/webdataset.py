"""WebDataset: .tar files whose members of the same name, up to the first dot, are one sample.

A picture, and beside it .json, .cls, .txt or .caption. Nothing is unpacked: members are read where they lie
in the archive, and their names are names only.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import DataError
from ..formats import is_picture_name
from ..splits import split_named
from .columns import columns_of, fields_of
from .files import files_in, readable
from .grouping import grouped
from .parquet import split_of
from .record import Record, Source, SourceContext, clean_text

_TEXTS = ("json", "cls", "txt", "caption")
_MAX_TEXT_BYTES = 1 << 20
_BLOCK = 512
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4")

Member = tuple[str, int, int]
"""What follows the first dot of a member's name, where its bytes begin in the archive, how many there are."""


@dataclass(frozen=True)
class TarPicture:
    """A picture that lies in an archive from `offset` on. size, mtime_ns: of the archive, as it was listed.

    texts: the members beside it that `complete` reads.
    """

    archive: Path
    size: int
    mtime_ns: int
    offset: int
    length: int
    texts: tuple[Member, ...]

    @property
    def key(self) -> str:
        """The archive as it was listed, and the places in it."""
        return f"{self.archive}|{self.size}|{self.mtime_ns}|{self.offset}|{self.length}|{self.texts}"

    def read(self, max_bytes: int) -> bytes:
        """The picture's bytes. Raises: OSError or ValueError, also where there are more than `max_bytes`."""
        return self.slice(self.offset, self.length, max_bytes)

    def slice(self, offset: int, length: int, max_bytes: int) -> bytes:
        """Some bytes of the archive. Raises: as `read`."""
        if length > max_bytes:
            raise ValueError(f"it has {length} bytes, more than {max_bytes}")
        with self.archive.open("rb") as stream:
            stream.seek(offset)
            data = stream.read(length)
        if len(data) != length:
            raise ValueError("the archive breaks off within it")
        return data


def detects(path: Path) -> bool:
    """A .tar file, or a folder of them in which pictures do not lie openly: its folders are splits."""
    if path.is_file():
        return _is_tar(path) or path.name.lower().endswith(_PACKED)
    return bool(_shards(path)) and all(
        folder.name.startswith(".") or split_named(folder.name) or files_in(folder, (".tar",))
        for folder in path.iterdir()
        if os.path.isdir(folder)
    )


def root(source: Path) -> Path:
    """The folder of the archives."""
    return source if source.is_dir() else source.parent


@readable
def records(source: Path, context: SourceContext) -> Iterator[Record]:
    """Yield a record per sample, archive by archive in the order of their names; emotions come with
    `complete`.

    An archive that breaks off ends with a problem. Raises: DataError when one is compressed.
    """
    if source.is_file() and not _is_tar(source):
        if source.name.lower().endswith(_PACKED):
            raise DataError(f"{source} is compressed: unpack it to a plain .tar file first.")
        raise DataError(f"{source} is no .tar archive: give one, or a folder of them.")
    top = root(source)
    for shard in [source] if source.is_file() else _shards(source):
        with shard.open("rb") as stream:
            if stream.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")):
                raise DataError(f"{shard} is compressed: unpack it to a plain .tar file first.")
        shown = shard.relative_to(top)
        yield from _samples(shard, shown.as_posix(), split_of(shown), context)


def complete(record: Record) -> Record:
    """Read the members beside a picture: .json before .cls for the emotion, before .txt for the caption."""
    picture = record.image
    if record.problem is not None or not isinstance(picture, TarPicture):
        return record
    for kind, offset, length in sorted(picture.texts, key=lambda text: _TEXTS.index(text[0])):
        try:
            text = picture.slice(offset, length, _MAX_TEXT_BYTES).decode("utf-8-sig")
            if kind == "json":
                record = _with_fields(record, json.loads(text))
            elif kind == "cls" and record.emotion is None:
                record = replace(record, emotion=text.rstrip("\r\n") or None)
            elif kind in ("txt", "caption") and record.caption is None:
                record = replace(record, caption=clean_text(text) or None)
        except (OSError, ValueError, RecursionError):
            note = "unreadable_caption" if kind in ("txt", "caption") else "broken_annotation"
            record = replace(record, notes=(*record.notes, note))
    return record


def _with_fields(record: Record, found: Any) -> Record:
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    columns = {ours: theirs for ours, theirs in columns_of(found).items() if ours not in ("image", "id")}
    told = fields_of(found, columns)
    return replace(record, **{**told, "id": None, "split": told["split"] or record.split})


def _samples(shard: Path, shown: str, split: str | None, context: SourceContext) -> Iterator[Record]:
    status = shard.stat()
    damage: list[str] = []
    for key, members in grouped(_members(shard, shown, damage, context)):
        pictures, texts = [], []
        for suffix, offset, length, name in members:
            if suffix in _TEXTS:
                texts.append((suffix, offset, length))
            else:
                pictures.append((suffix.count("."), offset, length, name))
        if not pictures:
            context.tally.note("other_files", f"{shown}/{key}")
            continue
        # "jpg" before "mask.png": what has a name of its own is something about the picture.
        pictures.sort(key=lambda picture: picture[0])
        for *_, name in pictures[1:]:
            context.tally.note("other_files", f"{shown}/{name}")
        _, offset, length, name = pictures[0]
        image = TarPicture(shard, status.st_size, status.st_mtime_ns, offset, length, tuple(texts))
        broken = offset + length > status.st_size
        yield Record(
            name=f"{shown}/{name}",
            image=image,
            split=split,
            problem=("truncated", "the archive breaks off within it") if broken else None,
        )
    for told in damage:
        yield Record(shown, None, problem=("damaged_archive", told))


def _members(
    shard: Path, shown: str, damage: list[str], context: SourceContext
) -> Iterator[tuple[str, list[Any]]]:
    """Yield (key, [suffix, offset, length, name]) for each picture and text; what is wrong goes to
    `damage`."""
    end = 0
    try:
        with tarfile.open(shard, "r:") as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it would remember them all
                end = archive.offset
                path = PurePosixPath(member.name)
                stem, _, suffix = path.name.partition(".")
                suffix = suffix.casefold()
                if member.isdir():
                    continue
                if path.name.startswith("."):
                    context.tally.note("hidden_files", f"{shown}/{member.name}")
                    continue
                is_picture = is_picture_name(Path(f"x.{suffix}"))
                if not member.isreg() or member.issparse() or not (is_picture or suffix in _TEXTS):
                    context.tally.note("other_files", f"{shown}/{member.name}")
                    continue
                yield (
                    (path.parent / stem).as_posix(),
                    [suffix, member.offset_data, member.size, member.name],
                )
    except RecursionError:  # tarfile reads a header that follows a header within it
        damage.append(f"after byte {end} stand headers of headers without end")
        return
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        damage.append(f"it breaks off after byte {end} ({error})")
        return
    # The end of an archive is a block of zeros; tarfile takes a broken header for the end, too.
    with shard.open("rb") as stream:
        stream.seek(end)
        if stream.read(_BLOCK) != bytes(_BLOCK):
            damage.append(f"after byte {end} there is neither a member nor the archive's end")


def _is_tar(path: Path) -> bool:
    return path.suffix.lower() == ".tar"


def _shards(folder: Path) -> list[Path]:
    """The archives in a folder and in the folders in it, by name."""
    return files_in(folder, (".tar",), depth=1)


WEBDATASET = Source(name="webdataset", detects=detects, root=root, records=records, complete=complete)
