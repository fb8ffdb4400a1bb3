"""EmoSet's folder: rows of three and four fields, annotations beside, and nothing that vanishes."""

import json
import os
import sys

import pytest

from coemogen_train.data import TrainingSet, prepare

NOT_ON_WINDOWS = pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
FULL = {
    "image_id": "awe_00000",
    "emotion": "awe",
    "brightness": 0.3,
    "colorfulness": 1.0,
    "scene": "mountain ",
    "facial_expression": "happy",
    "human_action": "boxing ",
    "object": ["Peak", "Sky"],
}


@pytest.fixture
def emoset(tmp_path, draw):
    """Two emotions with three pictures each, lists of three-field rows, and an annotation for each."""
    root = tmp_path / "EmoSet"
    rows = []
    for number, emotion in enumerate(("awe", "fear")):
        for index in range(3):
            name = f"{emotion}/{emotion}_{index:05d}"
            (root / "image" / emotion).mkdir(parents=True, exist_ok=True)
            (root / "annotation" / emotion).mkdir(parents=True, exist_ok=True)
            draw(10 * number + index).save(root / "image" / f"{name}.jpg")
            told = {**FULL, "emotion": emotion, "image_id": name}
            (root / "annotation" / f"{name}.json").write_text(json.dumps(told), encoding="utf-8")
            rows.append([emotion, f"image/{name}.jpg", f"annotation/{name}.json"])
    for split, some in (("train", rows[::3] + rows[2::3]), ("val", rows[1:2]), ("test", rows[4:5])):
        (root / f"{split}.json").write_text(json.dumps(some), encoding="utf-8")
    (root / "info.json").write_text("{}", encoding="utf-8")
    return root


def write_list(root, split, rows):
    (root / f"{split}.json").write_text(json.dumps(rows), encoding="utf-8")


def test_rows_of_three_and_of_four_fields_say_the_same(emoset, read):
    three = read(emoset)
    for split in ("train", "val", "test"):
        rows = json.loads((emoset / f"{split}.json").read_text(encoding="utf-8"))
        write_list(emoset, split, [[row[0], row[1].split("/")[-1][:-4], *row[1:]] for row in rows])
    four = read(emoset)
    assert (three.kind, len(three.usable), three.problems) == ("emoset", 6, {})
    assert four.records == three.records


def test_splits_are_kept_and_annotations_become_scene_objects_and_attributes(emoset, tmp_path):
    report = prepare(emoset, tmp_path / "set")
    samples = {s.id: s for s in TrainingSet.open(tmp_path / "set").samples()}
    assert (report.source, report.usable) == ("emoset", 6)
    assert {s.id: s.split for s in samples.values()} == {
        "image/awe/awe_00000.jpg": "train",
        "image/awe/awe_00001.jpg": "val",
        "image/awe/awe_00002.jpg": "train",
        "image/fear/fear_00000.jpg": "train",
        "image/fear/fear_00001.jpg": "test",
        "image/fear/fear_00002.jpg": "train",
    }
    first = samples["image/awe/awe_00000.jpg"]
    assert (first.emotion, first.scene, first.objects) == ("awe", "mountain", ("Peak", "Sky"))
    assert first.attributes == {
        "brightness": "0.3",
        "colorfulness": "1.0",
        "facial_expression": "happy",
        "human_action": "boxing",
    }


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (None, "missing_annotation"),
        (b"", "broken_annotation"),
        (b"{", "broken_annotation"),
        (b"\xff\xfe", "broken_annotation"),
        (b"[1]", "broken_annotation"),
        (b"[" * 100_000, "broken_annotation"),
        (b" " * (2 << 20), "broken_annotation"),
        (b'{"emotion": "awe", "scene": {"a": 1}}', "broken_annotation"),
        (b'{"emotion": "awe", "brightness": "dark"}', "broken_annotation"),
        (b'{"emotion": "awe", "object": [1]}', "broken_annotation"),
        (b'{"emotion": "fear"}', "annotation_disagrees"),
        (b'{"emotion": "awe", "brightness": 0.5, "colorfulness": 0.5}', None),
        (b'\xef\xbb\xbf{"emotion": "Awe ", "scene": "\\ud800"}', None),
    ],
)
def test_an_annotation_that_says_nothing_good_costs_no_picture(emoset, read, content, note):
    path = emoset / "annotation" / "awe" / "awe_00000.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    found = read(emoset)
    assert len(found.usable) == 6
    assert found.by_name["image/awe/awe_00000.jpg"].notes == ((note,) if note else ())
    (found.by_name["image/awe/awe_00000.jpg"].scene or "").encode("utf-8")


def test_paths_in_rows_stay_inside_the_folder(emoset, tmp_path, draw, read):
    draw(99).save(tmp_path / "secret.jpg")
    (tmp_path / "secret.json").write_text('{"scene": "secret"}', encoding="utf-8")
    inside = "annotation/awe/awe_00000.json"
    write_list(
        emoset,
        "train",
        [
            ["awe", "../secret.jpg", inside],
            ["awe", "image/../../secret.jpg", inside],
            ["awe", "..\\secret.jpg", inside],
            ["awe", str(tmp_path / "secret.jpg"), inside],
            ["awe", "C:\\secret.jpg", inside],
            ["awe", "image/awe/awe_00000.jpg", "../secret.json"],
        ],
    )
    found = read(emoset)
    assert len(found.problems["outside"]) == 5
    last = found.by_name["image/awe/awe_00000.jpg"]
    assert (last.scene, last.notes) == (None, ("missing_annotation",))


@NOT_ON_WINDOWS
def test_links_stay_inside_but_the_folder_of_pictures_may_lie_on_another_disk(emoset, tmp_path, draw, read):
    draw(99).save(tmp_path / "secret.jpg")
    picture = emoset / "image" / "awe" / "awe_00000.jpg"
    picture.unlink()
    picture.symlink_to(tmp_path / "secret.jpg")
    found = read(emoset)
    assert found.problems == {"outside": ["image/awe/awe_00000.jpg"]}
    picture.unlink()
    draw(98).save(picture)
    (emoset / "image").rename(tmp_path / "disk")
    (emoset / "image").symlink_to(tmp_path / "disk", target_is_directory=True)
    assert len(read(emoset).usable) == 6


def test_pictures_that_no_list_names_are_told(emoset, draw, read):
    draw(50).save(emoset / "image" / "awe" / "extra.jpg")
    draw(51).save(emoset / "image" / "new.png")
    (emoset / "image" / "awe" / "notes.md").write_text("x", encoding="utf-8")
    found = read(emoset)
    assert found.problems == {"unlisted": ["image/new.png", "image/awe/extra.jpg"]}
    assert found.tally.notes == {"other_files": 1}


def test_a_picture_is_listed_however_its_row_spells_it(emoset, read):
    rows = json.loads((emoset / "train.json").read_text(encoding="utf-8"))
    rows[0][1] = rows[0][1].replace("/", "\\")
    rows[1][1] = "./" + rows[1][1].replace("/", "//")
    write_list(emoset, "train", rows)
    assert read(emoset).problems == {}


def test_rows_that_cannot_be_read_are_problems_of_their_own(emoset, read):
    good = ["awe", "image/awe/awe_00000.jpg", "annotation/awe/awe_00000.json"]
    odd = [["awe"], {"emotion": "awe"}, "awe", None, [1, 2, 3], ["awe", "", ""], ["awe", None, ""], [], 5]
    write_list(emoset, "train", [good, *odd])
    found = read(emoset)
    assert len(found.problems["bad_row"]) == len(odd)
    assert found.records[0].name == good[1]


@pytest.mark.parametrize("end", ["", ',["awe", "image/a', ",]", "] trailing", ",{]]", "\xff"])
def test_a_list_that_breaks_off_keeps_what_came_before(emoset, read, end):
    whole = json.dumps([["awe", "image/awe/awe_00000.jpg", "annotation/awe/awe_00000.json"]])[:-1]
    (emoset / "train.json").write_bytes((whole + end).encode("latin-1"))
    found = read(emoset)
    assert found.problems["bad_row"] == ["train.json, row 2"]
    assert len(found.problems["unlisted"]) == 3  # what the lost rows named
    assert found.records[0].name == "image/awe/awe_00000.jpg"


def test_without_lists_the_folders_tell_the_emotion(emoset, read):
    for split in ("train", "val", "test"):
        (emoset / f"{split}.json").unlink()
    (emoset / "annotation" / "fear" / "fear_00002.json").unlink()
    found = read(emoset)
    assert (found.kind, len(found.usable)) == ("emoset", 6)
    assert [r.emotion for r in found.records] == ["awe"] * 3 + ["fear"] * 3
    assert {r.split for r in found.records} == {None}
    assert found.by_name["image/awe/awe_00000.jpg"].scene == "mountain"
    assert found.by_name["image/fear/fear_00002.jpg"].notes == ("missing_annotation",)


def test_caption_files_beside_the_pictures_are_read(emoset, read):
    (emoset / "image" / "awe" / "awe_00000.txt").write_text("a peak", encoding="utf-8")
    (emoset / "image" / "awe" / "awe_00001.caption").write_text("a lake", encoding="utf-8")
    (emoset / "image" / "awe" / "awe_00002.txt").write_bytes(b"")
    for _ in range(2):
        found = read(emoset)
        captions = [found.by_name[f"image/awe/awe_0000{i}.jpg"].caption for i in range(3)]
        assert captions == ["a peak", "a lake", None]
        assert found.by_name["image/awe/awe_00002.jpg"].notes == ("empty_caption",)
        assert found.by_name["image/awe/awe_00000.jpg"].scene == "mountain"
        for split in ("train", "val", "test"):
            (emoset / f"{split}.json").unlink(missing_ok=True)


def test_a_long_list_is_read_as_a_stream(emoset, read):
    rows = [["awe", f"image/awe/{'x' * 50}{i}.jpg", "annotation/a.json"] for i in range(5000)]
    write_list(emoset, "train", rows)
    found = read(emoset)
    assert [r.name for r in found.records[:5000]] == [row[1] for row in rows]


@NOT_ON_WINDOWS
def test_a_pipe_as_annotation_does_not_hold_anything_up(emoset, read):
    path = emoset / "annotation" / "awe" / "awe_00000.json"
    path.unlink()
    os.mkfifo(path)
    assert read(emoset).by_name["image/awe/awe_00000.jpg"].notes == ("broken_annotation",)


def test_rows_that_name_no_file_are_accounted_for(emoset, tmp_path):
    odd = [
        ".",
        "image",
        "image/awe",
        "a\0b",
        "x" * 5000,
        "image/awe/awe_00000.jpg/1.jpg",
        "\ud800.jpg",
        "...",
    ]
    good = json.loads((emoset / "train.json").read_text(encoding="utf-8"))
    write_list(emoset, "train", [*good, *(["awe", name, name] for name in odd)])
    report = prepare(emoset, tmp_path / "set")
    assert (report.found, report.usable) == (6 + len(odd), 6)
    assert sum(report.problems.values()) == len(odd)
    assert set(report.problems) <= {"missing", "not_a_file", "unreadable", "unusable_name"}


def test_a_number_too_long_to_be_read_ends_a_list_and_that_is_told(emoset, read):
    rows = '[["awe", "image/awe/awe_00000.jpg", ""], ["awe", ' + "1" * 5000 + ', ""], ["awe", "b.jpg", ""]]'
    (emoset / "train.json").write_text(rows, encoding="utf-8")
    told = [record.problem[1] for record in read(emoset).records if record.name == "train.json, row 2"]
    assert len(told) == 1 and "the rest is not counted" in told[0]
