"""Sets of tiny valid pictures to measure and to kill by, and how two sets are compared byte for byte."""

from __future__ import annotations

import csv
import hashlib
import io
import random
from pathlib import Path

import numpy as np
from PIL import Image

from coemogen_train.emotions import MIKELS

_WORDS = (
    ("a girl", "an old man", "two dogs", "a crowd", "a sailor", "nobody"),
    ("runs past", "waits by", "looks at", "stands under", "turns from"),
    ("a burning house", "golden leaves", "a grey sea", "paper lanterns", "broken glass"),
    ("in soft light", "at dusk", "under hard neon", "in thick fog", "at noon"),
)


def write_pictures(folder: Path, count: int, seed: int = 0) -> Path:
    """Write FOLDER/pictures/EMOTION/NUMBER.png or .jpg, 16 to 24 pixels a side, and FOLDER/table.csv over
    them with a caption and a similarity each; nothing where the table is there already. Returns the table."""
    table = folder / "table.csv"
    if table.exists():
        return table
    generator, words = np.random.default_rng([seed, count]), random.Random(seed)
    for name in MIKELS.names:
        (folder / "pictures" / name).mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        emotion = MIKELS.names[number % len(MIKELS.names)]
        name = f"pictures/{emotion}/{number:06d}{'.jpg' if number % 3 else '.png'}"
        (folder / name).write_bytes(_picture(generator, "JPEG" if number % 3 else "PNG"))
        caption = " ".join(words.choice(choices) for choices in _WORDS)
        rows.append((name, emotion, f"{caption}, {number}", f"{words.gauss(0.25, 0.05):.6f}"))
    part = folder / "table.csv.part"
    with part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "emotion", "caption", "similarity"))
        writer.writerows(rows)
    part.replace(table)
    return table


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of a set by its path: what a finished set is, cache included, without the
    room in which unfinished work lies (.work) and without locks."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith(".work/") and path.suffix != ".lock":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def differences(one: Path, other: Path) -> list[str]:
    """What one of two sets has and the other has not, or otherwise: relative paths."""
    left, right = digests(one), digests(other)
    return sorted(name for name in {*left, *right} if left.get(name) != right.get(name))


def _picture(generator: np.random.Generator, kind: str) -> bytes:
    """A file of noise, which no other picture is equal to."""
    width, height = generator.integers(16, 25, 2)
    image = Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
    out = io.BytesIO()
    image.save(out, kind, quality=90, compress_level=1)
    return out.getvalue()
