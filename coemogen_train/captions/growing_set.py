"""A set that grows picture by picture: what the save node writes and `prepare` reads.

    ROOT/<set>/samples.jsonl      a row per picture: image, emotion, caption, similarity
    ROOT/<set>/<emotion>/*.png    the pictures, named so that none is ever written over

A picture is there, whole, before its row is; a row is one line, written at once. Names come from workflows,
which may come from anybody: they cannot leave ROOT.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..files import atomic_write_bytes
from .prompt import plain_emotion

SAMPLES = "samples.jsonl"
_MAX_NAME_BYTES = 120
_RESERVED = frozenset(
    (
        *("con", "prn", "aux", "nul", "conin$", "conout$"),
        *(f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³"),
    )
)
_MARKS = " _-.()+,"


@dataclass(frozen=True)
class SavedPicture:
    """Where a picture went. folder: of the picture below ROOT, with slashes; name: of the file."""

    folder: str
    name: str


def set_folder(root: Path, name: str) -> Path:
    """The folder of a set; it need not exist yet.

    Raises: DataError for a name that is no plain folder name, on any system, or that leads elsewhere.
    """
    plain = unicodedata.normalize("NFC", name.strip())
    if not _is_plain(plain):
        raise DataError(
            f"'{_shown(name)}' cannot name a set: use letters, digits, spaces and '_-.()+,', no slash and no "
            "dot at either end, and no name that Windows keeps for itself, such as 'con'."
        )
    folder = root / plain
    if not folder.resolve().is_relative_to(root.resolve()):
        raise DataError(f"the set '{plain}' is a link that leads out of {root}: choose another name.")
    return folder


def add_picture(
    root: Path,
    set_name: str,
    png: bytes,
    emotion: str,
    caption: str = "",
    similarity: float = math.nan,
    mixture: str = "",
    counts: dict[Path, int] | None = None,
) -> SavedPicture:
    """Write a picture and its row.

    Args:
        root: the folder that sets lie in. set_name: as `set_folder` takes it.
        png: the file's bytes. emotion: the label, as `prepare` will map it to its taxonomy.
        caption, mixture: "" for none. similarity: not a number for none.
        counts: pictures per folder, filled in here; kept between calls, each folder is listed only once.

    Raises:
        DataError: a name that is none, an emotion that is empty, or a folder that cannot be written to.
    """
    label = plain_emotion(emotion)
    if not label:
        raise DataError("the picture's emotion is empty: name it, such as 'awe'.")
    folder = set_folder(root, set_name)
    try:
        picture = _fresh_name(folder / emotion_folder(label), {} if counts is None else counts)
        atomic_write_bytes(picture, png)
        row: dict[str, Any] = {
            "image": picture.relative_to(folder).as_posix(),
            "emotion": label,
            "caption": " ".join(caption.split()) or None,
            "similarity": similarity if math.isfinite(similarity) else None,
        }
        _append(folder / SAMPLES, row | ({"mixture": mixture} if mixture else {}))
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written to ({error.strerror or error}): make room there, or choose another "
            "set."
        ) from None
    return SavedPicture(picture.parent.relative_to(root).as_posix(), picture.name)


def emotion_folder(emotion: str) -> str:
    """The folder of an emotion's pictures, for people who look into it; `prepare` goes by the row's label."""
    name = "".join(letter if letter.isalnum() else "_" for letter in unicodedata.normalize("NFC", emotion))
    while len(name.encode("utf-8", "replace")) > _MAX_NAME_BYTES:
        name = name[:-1]
    return f"_{name}" if name.lower() in _RESERVED else name


def _is_plain(name: str) -> bool:
    return (
        bool(name)
        and len(name.encode("utf-8", "replace")) <= _MAX_NAME_BYTES
        and all(letter.isalnum() or letter in _MARKS for letter in name)
        and not name.startswith(".")
        and not name.endswith(".")
        and name.split(".")[0].strip().lower() not in _RESERVED
    )


def _shown(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name[:60])


def _fresh_name(folder: Path, counts: dict[Path, int]) -> Path:
    """A name that nobody has: numbered for people, with some random letters against a second writer."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder not in counts:
        counts[folder] = sum(1 for path in folder.iterdir() if path.suffix == ".png")
    number = counts[folder] + 1
    while (path := folder / f"{folder.name}_{number:05d}_{secrets.token_hex(3)}.png").exists():
        number += 1
    counts[folder] = number
    return path


def _append(table: Path, row: dict[str, Any]) -> None:
    """Add one line; a line that a killed writer left unfinished keeps to itself."""
    line = (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "replace")
    with table.open("a+b", buffering=0) as stream:
        if stream.seek(0, os.SEEK_END):
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                line = b"\n" + line
        stream.write(line)
        os.fsync(stream.fileno())
