"""prepare on a table: CSV, TSV, JSON lines, Parquet."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coemogen_train.data import TrainingSet, prepare, prepare_table
from coemogen_train.errors import DataError


@pytest.fixture
def pictures(tmp_path, draw):
    """Six pictures, 0.png to 5.png, in a folder beside the table."""
    (tmp_path / "img").mkdir()
    for index in range(6):
        draw(index).save(tmp_path / "img" / f"{index}.png")
    return tmp_path


def opened(folder):
    return {s.id: s for s in TrainingSet.open(folder / "set").samples()}


ROWS = [
    {
        "image": "img/0.png",
        "emotion": "awe",
        "caption": "a peak",
        "split": "train",
        "scene": "mountain",
        "objects": "peak|sky",
    },
    {
        "image": "img/1.png",
        "emotion": "Fear",
        "caption": "",
        "split": "validation",
        "scene": "",
        "objects": "",
    },
]


def test_csv_jsonl_and_parquet_give_the_same_samples(pictures):
    header = list(ROWS[0])
    lines = [",".join(header)] + [",".join(row[name] for name in header) for row in ROWS]
    (pictures / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    (pictures / "t.tsv").write_text("\n".join(lines).replace(",", "\t"), encoding="utf-8")
    (pictures / "t.jsonl").write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(ROWS), pictures / "t.parquet")
    found = []
    for name in ("t.csv", "t.tsv", "t.jsonl", "t.parquet"):
        report = prepare(pictures / name, pictures / "set")
        assert (report.usable, report.captions) == (2, 1)
        found.append(opened(pictures))
    assert all(samples == found[0] for samples in found)
    first = found[0]["img/0.png"]
    assert (first.caption, first.split, first.scene, first.objects) == (
        "a peak",
        "train",
        "mountain",
        ("peak", "sky"),
    )
    second = found[0]["img/1.png"]
    assert (second.caption, second.split, second.emotion, second.objects) == (None, "val", "fear", ())


def test_csv_with_quotes_line_breaks_formulas_and_byte_order_mark(pictures):
    (pictures / "t.csv").write_bytes(
        b"\xef\xbb\xbfImage,Label,Text\r\n"
        b'img/0.png,awe ,"a ""great"" peak,\r\nwith snow"\r\n'
        b"img/1.png,fear,=HYPERLINK(1)\r\n"
        b"\r\n"
        b"img/2.png,fear\r\n"
        b"img/9.png,fear,gone\r\n"
        b"img/3.png,boredom,x\r\n"
        b"img/4.png,,x\r\n"
    )
    report = prepare(pictures / "t.csv", pictures / "set")
    captions = {s.id: s.caption for s in opened(pictures).values()}
    assert captions == {"img/0.png": 'a "great" peak, with snow', "img/1.png": "=HYPERLINK(1)"}
    assert report.problems == {"bad_row": 1, "missing": 1, "no_emotion": 1, "unknown_emotion": 1}
    assert report.notes == {"trimmed_label": 1}
    assert report.found == 6


def test_semicolons_separate_where_they_are_the_majority(pictures):
    (pictures / "t.csv").write_text("image;emotion;caption\nimg/0.png;awe;a, b\n", encoding="utf-8")
    prepare(pictures / "t.csv", pictures / "set")
    assert opened(pictures)["img/0.png"].caption == "a, b"


def test_bad_json_lines_are_problems_of_their_own(pictures):
    lines = [
        '{"image": "img/0.png", "emotion": "awe"}',
        "{",
        "[1]",
        '{"emotion": "awe"}',
        '"\\ud800"',
        "[" * 100000,
    ]
    (pictures / "t.jsonl").write_text("\n".join(lines), encoding="utf-8")
    report = prepare(pictures / "t.jsonl", pictures / "set")
    assert (report.usable, report.problems) == (1, {"bad_row": 5})


def test_half_surrogates_in_json_never_reach_the_tables(pictures):
    row = r'{"image": "img/0.png", "emotion": "awe", "caption": "a \ud800 b", "mood\udfff": "x\ud800"}'
    (pictures / "t.jsonl").write_text(row, encoding="utf-8")
    prepare(pictures / "t.jsonl", pictures / "set")
    assert opened(pictures)["img/0.png"].caption == "a ? b"


def test_other_columns_are_kept_as_attributes(pictures):
    row = {
        "image": "img/0.png",
        "emotion": "awe",
        "story": "summit",
        "brightness": 0.3,
        "box": [1, 2],
        "none": None,
    }
    (pictures / "t.jsonl").write_text(json.dumps(row), encoding="utf-8")
    prepare(pictures / "t.jsonl", pictures / "set")
    assert opened(pictures)["img/0.png"].attributes == {"story": "summit", "brightness": "0.3"}


def test_ids_of_the_table_are_used_and_must_differ(pictures):
    rows = [{"image": f"img/{i}.png", "emotion": "awe", "id": name} for i, name in enumerate(("x", "y", "x"))]
    (pictures / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    report = prepare(pictures / "t.jsonl", pictures / "set")
    assert sorted(opened(pictures)) == ["x", "y"]
    assert report.problems == {"duplicate_id": 1}


def test_one_picture_under_two_emotions_is_not_used(pictures):
    rows = [("0", "awe"), ("0", "fear"), ("1", "awe"), ("1", "awe"), ("2", "fear")]
    lines = [json.dumps({"image": f"img/{number}.png", "emotion": emotion}) for number, emotion in rows]
    (pictures / "t.jsonl").write_text("\n".join(lines), encoding="utf-8")
    report = prepare(pictures / "t.jsonl", pictures / "set")
    assert report.problems == {"conflicting_duplicate": 2, "duplicate": 1}
    assert sorted(opened(pictures)) == ["img/1.png", "img/2.png"]


def test_backslashes_and_absolute_paths_are_found(pictures, tmp_path_factory, draw):
    far = tmp_path_factory.mktemp("far") / "far.png"
    draw(77).save(far)
    rows = [{"image": "img\\0.png", "emotion": "awe"}, {"image": str(far), "emotion": "awe"}]
    (pictures / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    prepare(pictures / "t.jsonl", pictures / "set")
    samples = opened(pictures)
    assert samples["img\\0.png"].image == pictures / "img" / "0.png"
    assert samples[str(far)].image == far


def test_unknown_split_is_a_problem(pictures):
    (pictures / "t.csv").write_text(
        "image,emotion,split\nimg/0.png,awe,holdout\nimg/1.png,awe,dev\n", encoding="utf-8"
    )
    assert prepare(pictures / "t.csv", pictures / "set").problems == {"unknown_split": 1}


def test_folder_with_metadata_is_read_as_a_table(pictures):
    (pictures / "img" / "metadata.csv").write_text("file_name,label\n0.png,awe\n", encoding="utf-8")
    report = prepare(pictures / "img", pictures / "set")
    assert (report.source, report.usable) == ("table", 1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"picture,emotion\n1.png,awe\n", "no column 'image'"),
        ("t.csv", b"", "no column 'image'"),
        ("t.csv", "image,emotion\né.png,awe\n".encode("latin-1"), "not UTF-8"),
        ("t.parquet", b"PAR1 not really", "not a Parquet table"),
        ("t.xlsx", b"PK", "neither a folder"),
    ],
)
def test_table_that_cannot_be_read_is_one_clear_sentence(pictures, name, content, message):
    (pictures / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        prepare(pictures / name, pictures / "set")


def test_captions_of_others_survive_a_new_prepare(pictures):
    (pictures / "t.csv").write_text("image,emotion\nimg/0.png,awe\nimg/1.png,awe\n", encoding="utf-8")
    prepare_table(pictures / "t.csv", pictures / "set")
    opened_set = TrainingSet.open(pictures / "set")
    rows = [
        {"id": s.id, "sha256": s.sha256, "caption": f"of {s.id}", "origin": "model"}
        for s in opened_set.samples()
    ]
    opened_set.write_captions(rows)
    (pictures / "t.csv").write_text(
        "image,emotion,caption\nimg/0.png,awe,given\nimg/1.png,awe,\n", encoding="utf-8"
    )
    prepare_table(pictures / "t.csv", pictures / "set")
    assert {s.id: s.caption for s in opened(pictures).values()} == {
        "img/0.png": "given",
        "img/1.png": "of img/1.png",
    }


def test_caption_does_not_outlive_its_picture(pictures, draw):
    (pictures / "t.csv").write_text("image,emotion\nimg/0.png,awe\n", encoding="utf-8")
    prepare_table(pictures / "t.csv", pictures / "set")
    opened_set = TrainingSet.open(pictures / "set")
    (sample,) = opened_set.samples()
    opened_set.write_captions(
        [{"id": sample.id, "sha256": sample.sha256, "caption": "old", "origin": "model"}]
    )
    draw(99).save(pictures / "img" / "0.png")
    prepare_table(pictures / "t.csv", pictures / "set")
    assert opened(pictures)["img/0.png"].caption is None
