"""Hugging Face's imagefolder, JSON lists, and what a table's columns may leave to the folders."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coemogen_train.data import TrainingSet, prepare
from coemogen_train.errors import DataError


@pytest.fixture
def imagefolder(tmp_path, draw):
    """Two pictures per split; train with JSON lines, test with a CSV, validation with a Parquet table."""
    root = tmp_path / "hub"
    for number, split in enumerate(("train", "test", "validation")):
        (root / split).mkdir(parents=True)
        rows = [{"file_name": f"{i}.png", "label": "awe", "text": f"{split} {i}"} for i in range(2)]
        for i in range(2):
            draw(10 * number + i).save(root / split / f"{i}.png")
        if split == "train":
            text = "\n".join(map(json.dumps, rows))
            (root / split / "metadata.jsonl").write_text(text, encoding="utf-8")
        elif split == "test":
            lines = [",".join(row) for row in (rows[0], *(r.values() for r in rows))]
            (root / split / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
        else:
            pq.write_table(pa.Table.from_pylist(rows), root / split / "metadata.parquet")
    return root


def test_an_imagefolder_has_a_table_per_split(imagefolder, tmp_path):
    report = prepare(imagefolder, tmp_path / "set")
    assert (report.source, report.found, report.usable, report.captions) == ("table", 6, 6, 6)
    samples = {s.id: (s.split, s.caption) for s in TrainingSet.open(tmp_path / "set").samples()}
    assert samples == {
        f"{folder}/{i}.png": (split, f"{folder} {i}")
        for folder, split in (("train", "train"), ("test", "test"), ("validation", "val"))
        for i in range(2)
    }


def test_pictures_that_no_table_of_the_folder_names_are_told(imagefolder, draw, read):
    draw(77).save(imagefolder / "train" / "extra.png")
    draw(78).save(imagefolder / "loose.png")
    assert read(imagefolder).problems == {"unlisted": ["loose.png", "train/extra.png"]}


def test_without_an_emotion_column_the_folders_tell_it(tmp_path, draw, read):
    root = tmp_path / "hub"
    names = ("train/awe/1.png", "test/Sad/2.png", "train/mine/3.png")
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True)
        draw(number).save(root / name)
    rows = [{"file_name": name, "text": "a peak"} for name in names]
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = [(record.emotion, record.split) for record in read(root).records]
    assert found == [("awe", "train"), ("Sad", "test"), (None, "train")]


def test_a_json_list_is_a_table(tmp_path, draw):
    draw(1).save(tmp_path / "1.png")
    rows = [
        {"image": "1.png", "emotion": "awe", "caption": ["a peak", "a hill"], "similarity": 0.25, "box": [1]},
        ["1.png"],
        {"image": {"a": 1}, "emotion": "awe"},
    ]
    (tmp_path / "t.json").write_text(json.dumps(rows), encoding="utf-8")
    report = prepare(tmp_path / "t.json", tmp_path / "set")
    assert (report.usable, report.problems) == (1, {"bad_row": 2})
    (sample,) = TrainingSet.open(tmp_path / "set").samples()
    assert (sample.caption, sample.attributes) == ("a peak", {"similarity": "0.25"})


def test_a_json_list_that_breaks_off_keeps_what_came_before(tmp_path, read):
    (tmp_path / "t.json").write_text('[{"image": "1.png", "emotion": "awe"}, {"ima', encoding="utf-8")
    found = read(tmp_path / "t.json")
    assert ([r.name for r in found.usable], found.problems) == (["1.png"], {"bad_row": ["t.json, row 2"]})


@pytest.mark.parametrize("content", ["", "3", "{", "nothing"])
def test_json_that_is_no_list_is_one_clear_sentence(tmp_path, content):
    (tmp_path / "t.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="is not a JSON list of objects"):
        prepare(tmp_path / "t.json", tmp_path / "set")


def test_a_gallerys_metadata_json_makes_no_table_of_a_folder(tmp_path, draw, read):
    (tmp_path / "photos" / "awe").mkdir(parents=True)
    draw(1).save(tmp_path / "photos" / "awe" / "1.png")
    (tmp_path / "photos" / "metadata.json").write_text("{}", encoding="utf-8")
    assert read(tmp_path / "photos").kind == "folder"
