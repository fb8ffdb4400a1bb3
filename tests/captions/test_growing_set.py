"""What the save node writes is a set's table: no picture is lost, overwritten, or written elsewhere."""

import io
import json
import os
import threading
from pathlib import Path

import pytest
from PIL import Image

from coemogen_train.captions.growing_set import SAMPLES, add_picture, emotion_folder, set_folder
from coemogen_train.data import prepare
from coemogen_train.data.samples import TrainingSet
from coemogen_train.errors import DataError


def png(shade):
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (shade, 255 - shade, 7)).save(buffer, "PNG")
    return buffer.getvalue()


def rows(root, name="mine"):
    return [json.loads(line) for line in (root / name / SAMPLES).read_text(encoding="utf-8").splitlines()]


def test_prepare_reads_what_was_saved(tmp_path):
    for shade, emotion in enumerate(["awe", "fear", "Awe", "sadness"]):
        add_picture(
            tmp_path, "mine", png(shade), emotion, f"A caption, number {shade}; with \N{BULLET}.", 0.25
        )
    add_picture(tmp_path, "mine", png(9), "awe", mixture="awe 0.7 + fear 0.3")
    report = prepare(tmp_path / "mine" / SAMPLES, tmp_path / "set")
    assert (report.found, report.usable, report.problems) == (5, 5, {})
    samples = TrainingSet.open(tmp_path / "set").samples()
    assert sorted(sample.emotion for sample in samples) == ["awe", "awe", "awe", "fear", "sadness"]
    assert sorted(sample.caption or "" for sample in samples)[1] == "A caption, number 0; with \N{BULLET}."
    assert {sample.attributes.get("similarity") for sample in samples} == {"0.25", None}
    assert [sample.attributes["mixture"] for sample in samples if "mixture" in sample.attributes] == [
        "awe 0.7 + fear 0.3"
    ]


def test_a_row_is_what_it_says(tmp_path):
    saved = add_picture(tmp_path, "mine", png(0), "awe", " A\ncaption ", 0.5)
    (row,) = rows(tmp_path)
    assert row == {"image": f"awe/{saved.name}", "emotion": "awe", "caption": "A caption", "similarity": 0.5}
    assert saved.folder == "mine/awe"
    assert (tmp_path / saved.folder / saved.name).read_bytes() == png(0)


@pytest.mark.parametrize("similarity", [float("nan"), float("inf")])
def test_no_score_is_no_number(tmp_path, similarity):
    add_picture(tmp_path, "mine", png(0), "awe", "", similarity)
    assert rows(tmp_path) == [{**rows(tmp_path)[0], "caption": None, "similarity": None}]


def test_equal_pictures_get_a_file_each(tmp_path):
    names = {add_picture(tmp_path, "mine", png(0), "awe").name for _ in range(5)}
    assert len(names) == len(rows(tmp_path)) == 5
    assert sorted(names)[0].startswith("awe_00001_")


def test_a_folder_is_listed_once_for_many_pictures_and_counted_on(tmp_path, monkeypatch):
    add_picture(tmp_path, "mine", png(0), "awe")
    listed, real = [], Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: listed.append(path.name) or real(path))
    counts: dict[Path, int] = {}
    names = [
        add_picture(tmp_path, "mine", png(1), label, counts=counts).name for label in ["awe", "fear"] * 4
    ]
    assert sorted(listed) == ["awe", "fear"]
    assert [name[:-11] for name in names[::2]] == [f"awe_{number:05d}" for number in range(2, 6)]
    assert [name[:-11] for name in names[1::2]] == [f"fear_{number:05d}" for number in range(1, 5)]
    assert len({row["image"] for row in rows(tmp_path)}) == 9


def test_writers_at_the_same_time_lose_nothing(tmp_path):
    def write(start):
        for shade in range(start, start + 20):
            add_picture(tmp_path, "mine", png(shade), "awe", "x" * 500)

    threads = [threading.Thread(target=write, args=(start,)) for start in (0, 50, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = rows(tmp_path)
    assert len({row["image"] for row in found}) == 60
    assert all((tmp_path / "mine" / row["image"]).is_file() for row in found)


def test_a_line_that_was_cut_off_does_not_swallow_the_next(tmp_path):
    add_picture(tmp_path, "mine", png(0), "awe")
    with (tmp_path / "mine" / SAMPLES).open("ab") as stream:
        stream.write(b'{"image": "awe/half')
    add_picture(tmp_path, "mine", png(1), "fear")
    report = prepare(tmp_path / "mine" / SAMPLES, tmp_path / "set")
    assert (report.found, report.usable, report.problems) == (3, 2, {"bad_row": 1})


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "..",
        "../up",
        "a/b",
        "a\\b",
        "/etc",
        "C:",
        "C:\\x",
        ".hidden",
        "end.",
        "con",
        "CON.txt",
        "nul",
        "Com1",
        "lpt\N{SUPERSCRIPT ONE}",
        "a\x00b",
        "a\nb",
        "a*b",
        "a?b",
        'a"b',
        "a|b",
        "~",
        "%date%",
        "x" * 500,
        "恐" * 100,
        "\ud800",
    ],
    ids=lambda name: ascii(name[:12]),
)
def test_names_that_are_no_folder_are_refused(tmp_path, name):
    root = tmp_path / "output"
    root.mkdir()
    with pytest.raises(DataError, match="cannot name a set: use letters") as told:
        add_picture(root, name, png(0), "awe")
    assert "\n" not in str(told.value)
    assert list(tmp_path.iterdir()) == [root] and list(root.iterdir()) == []


@pytest.mark.parametrize("name", ["mine", " mine ", "my set (2)", "v1.2", "恐惧", "été_3-a+b"])
def test_names_of_ordinary_folders_are_taken(tmp_path, name):
    assert set_folder(tmp_path, name).parent == tmp_path
    add_picture(tmp_path, name, png(0), "awe")
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    (tmp_path / "output").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "output" / "mine").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="is a link that leads out of"):
        add_picture(tmp_path / "output", "mine", png(0), "awe")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    ("emotion", "folder"),
    [
        ("awe", "awe"),
        ("fear and awe", "fear_and_awe"),
        ("../../etc", "______etc"),
        ("con", "_con"),
        ("恐惧", "恐惧"),
        ("...", "___"),
        ("x" * 1000, "x" * 120),
    ],
)
def test_the_folder_of_an_emotion_is_a_plain_one(tmp_path, emotion, folder):
    assert emotion_folder(emotion) == folder
    saved = add_picture(tmp_path, "mine", png(0), emotion)
    assert saved.folder == f"mine/{folder}"


def test_an_empty_emotion_is_refused(tmp_path):
    with pytest.raises(DataError, match="emotion is empty"):
        add_picture(tmp_path, "mine", png(0), " \n ")


def test_a_place_that_cannot_be_written_to_is_told(tmp_path):
    (tmp_path / "mine").write_text("a file", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be written to"):
        add_picture(tmp_path, "mine", png(0), "awe")
