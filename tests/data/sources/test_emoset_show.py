"""A folder in EmoSet's layout with all that can go wrong in it: every single picture is accounted for."""

from __future__ import annotations

import csv
import json
import shutil
import struct
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from coemogen_train.emotions import MIKELS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="names and links that Windows forbids")

PER_EMOTION = 25
CAPTIONS = (
    'A sign that says "go", they say.',
    "Two lines\nof text",
    '=HYPERLINK("http://x","y")',
    "+1 (more)",
    "@SUM(A1:A9)",
    "semicolons; tabs\tand, commas",
    "",
)


@dataclass
class Emoset:
    """The folder, its rows [emotion, image, annotation], and what is expected of each odd picture by name."""

    root: Path
    rows: list[list[str]] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def rename(self, row: list[str], name: str) -> None:
        new = row[1].rpartition("/")[0] + "/" + name
        (self.root / row[1]).rename(self.root / new)
        row[1] = new

    def path(self, row: list[str]) -> Path:
        return self.root / row[1]


def bomb() -> bytes:
    """A PNG of a few bytes that claims 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        whole = kind + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.fixture
def emoset(tmp_path: Path, draw: Callable[..., Image.Image]) -> Emoset:
    made = Emoset(tmp_path / "EmoSet")
    for number, emotion in enumerate(MIKELS.names):
        for index in range(PER_EMOTION):
            name = f"{emotion}/{emotion}_{index:05d}"
            picture, annotation = (
                made.root / "image" / f"{name}.jpg",
                made.root / "annotation" / f"{name}.json",
            )
            picture.parent.mkdir(parents=True, exist_ok=True)
            annotation.parent.mkdir(parents=True, exist_ok=True)
            draw(100 * number + index, 32, 24).save(picture, quality=95)
            told = {"image_id": name, "emotion": emotion, "brightness": 0.5, "colorfulness": 0.1}
            annotation.write_text(json.dumps(told), encoding="utf-8")
            made.rows.append([emotion, f"image/{name}.jpg", f"annotation/{name}.json"])
    spoil(made, draw)
    (made.root / "info.json").write_text("{}", encoding="utf-8")
    return made


def spoil(made: Emoset, draw: Callable[..., Image.Image]) -> None:
    """Put each oddity in the place of one ordinary picture; nothing else is changed."""
    rows = iter(made.rows)

    def next_row(**expected: str) -> list[str]:
        row = next(rows)
        for kind in ("problems", "notes"):
            if kind in expected:
                getattr(made, kind)[row[1]] = expected[kind]
        return row

    whole = made.path(row := next_row(problems="truncated")).read_bytes()
    made.path(row).write_bytes(whole[: len(whole) * 2 // 3])
    made.path(next_row(problems="empty")).write_bytes(b"")
    draw(900, 32, 24).save(made.path(next_row(notes="wrong_suffix")), "PNG")
    draw(901, 32, 24).convert("CMYK").save(made.path(next_row(notes="cmyk")), "JPEG")

    row = next(rows)
    made.rename(row, "grey.png")
    grey = np.random.default_rng(902).integers(0, 65536, (24, 32), dtype=np.uint16)
    Image.fromarray(grey).save(made.path(row))
    made.notes[row[1]] = "deep_grey"

    row = next(rows)
    made.rename(row, "palette.png")
    palette = draw(903, 32, 24).convert("P")
    palette.save(made.path(row), transparency=bytes(range(256)))
    made.notes[row[1]] = "transparent"

    row = next(rows)
    made.rename(row, "moving.webp")
    draw(904, 32, 24).save(made.path(row), save_all=True, append_images=[draw(905, 32, 24)], duration=100)
    made.notes[row[1]] = "animated"

    turned = Image.Exif()
    turned[0x0112] = 6
    draw(906, 32, 24).save(made.path(next_row(notes="exif_rotated")), exif=turned)
    Image.new("RGB", (1, 1)).save(made.path(next_row(problems="too_small")))
    made.path(next_row(problems="too_large")).write_bytes(bomb())
    for name in ("with spaces.jpg", "Größe ñ.jpg", "图片.jpg", "line\nbreak.jpg"):
        made.rename(next(rows), name)

    row = next_row(problems="outside")
    elsewhere = made.root.parent / "elsewhere.jpg"
    made.path(row).rename(elsewhere)
    made.path(row).symlink_to(elsewhere)

    first, second = made.rows[3 * PER_EMOTION], made.rows[5 * PER_EMOTION]
    shutil.copy(made.path(first), made.path(second))
    made.problems |= dict.fromkeys((first[1], second[1]), "conflicting_duplicate")
    first, second = made.rows[3 * PER_EMOTION + 1], made.rows[3 * PER_EMOTION + 2]
    shutil.copy(made.path(first), made.path(second))
    made.problems[second[1]] = "duplicate"

    row = made.rows[-1]
    (made.root / row[2]).unlink()
    made.notes[row[1]] = "missing_annotation"
    row = made.rows[-2]
    row[0] += " "
    made.notes[row[1]] = "trimmed_label"
    row = made.rows[-3]
    row[0] = "nostalgia"
    made.problems[row[1]] = "unknown_emotion"


def write_lists(made: Emoset, fields: int) -> None:
    """The rows with three or four fields; every tenth is in val, every other tenth in test."""
    rows = [row if fields == 3 else [row[0], Path(row[1]).stem, *row[1:]] for row in made.rows]
    for split, start in (("val", 0), ("test", 5)):
        (made.root / f"{split}.json").write_text(json.dumps(rows[start::10]), encoding="utf-8")
    train = [row for index, row in enumerate(rows) if index % 5]
    (made.root / "train.json").write_text(json.dumps(train, ensure_ascii=False), encoding="utf-8")


def run_prepare(repository: Path, source: Path, out: Path) -> dict:
    command = [sys.executable, "-m", "coemogen_train", "prepare", str(source), "--out", str(out), "--json"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def fates(out: Path) -> dict[str, str]:
    """What became of each picture, by name: "usable", or its problem; none has two."""
    usable = pq.read_table(out / "samples.parquet", columns=["id"]).column("id").to_pylist()
    lines = (out / "problems.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    found = [(name, "usable") for name in usable]
    found += [(row["image"], row["problem"]) for row in map(json.loads, lines)]
    assert len({name for name, _ in found}) == len(found)
    return dict(found)


@pytest.mark.parametrize("fields", [3, 4])
def test_emosets_folder_is_accounted_for_one_by_one(emoset, tmp_path, repository, fields):
    write_lists(emoset, fields)
    told = run_prepare(repository, emoset.root, tmp_path / "set")
    assert fates(tmp_path / "set") == {row[1]: "usable" for row in emoset.rows} | emoset.problems
    assert told["source"] == "emoset"
    assert told["problems"] == dict(Counter(emoset.problems.values()))
    assert told["notes"] == dict(Counter(emoset.notes.values()))
    assert (told["found"], told["usable"]) == (200, 191)
    assert told["found"] == told["usable"] + sum(told["problems"].values())
    samples = {row["id"]: row for row in pq.read_table(tmp_path / "set" / "samples.parquet").to_pylist()}
    (turned,) = (name for name, note in emoset.notes.items() if note == "exif_rotated")
    assert (samples[turned]["width"], samples[turned]["height"]) == (24, 32)
    for split, start in (("val", 0), ("test", 5)):
        kept = {name for name, row in samples.items() if row["split"] == split}
        assert kept == {row[1] for row in emoset.rows[start::10]} & set(samples)


def test_the_same_pictures_in_a_table_are_accounted_for_one_by_one(emoset, tmp_path, repository):
    captions = {row[1]: CAPTIONS[index % len(CAPTIONS)] for index, row in enumerate(emoset.rows)}
    with (emoset.root / "table.csv").open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "emotion", "caption"])
        writer.writerows([row[1], row[0], captions[row[1]]] for row in emoset.rows)
        stream.write('too,few\r\n"image/not there.jpg",awe,"x, y"\r\n,awe,no name\r\n')
    told = run_prepare(repository, emoset.root / "table.csv", tmp_path / "set")
    # Whoever wrote a path into a table meant it, links included; and annotations are no matter of tables.
    problems = {name: kind for name, kind in emoset.problems.items() if kind != "outside"}
    problems |= {
        "table.csv, row 201": "bad_row",
        "image/not there.jpg": "missing",
        "table.csv, row 203": "bad_row",
    }
    assert fates(tmp_path / "set") == {row[1]: "usable" for row in emoset.rows} | problems
    assert told["problems"] == dict(Counter(problems.values()))
    assert (told["found"], told["usable"]) == (203, 192)
    notes = Counter(emoset.notes.values())
    del notes["missing_annotation"]
    assert told["notes"] == dict(notes)
    rows = pq.read_table(tmp_path / "set" / "captions.parquet", columns=["id", "caption"]).to_pylist()
    expected = {name: " ".join(text.split()) for name, text in captions.items() if text}
    assert {row["id"]: row["caption"] for row in rows} == {
        name: text for name, text in expected.items() if name not in problems
    }


def test_the_same_pictures_without_lists_are_accounted_for_one_by_one(emoset, tmp_path, repository):
    told = run_prepare(repository, emoset.root, tmp_path / "set")
    # The folder tells the emotion: no label can be odd.
    problems = {name: kind for name, kind in emoset.problems.items() if kind != "unknown_emotion"}
    assert fates(tmp_path / "set") == {row[1]: "usable" for row in emoset.rows} | problems
    assert (told["found"], told["usable"]) == (200, 192)
