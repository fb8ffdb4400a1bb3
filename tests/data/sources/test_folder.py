"""Caption files beside pictures, folder names as LoRA trainers have them, and pictures without labels."""

import sys

import pytest

from coemogen_train.data import TrainingSet, prepare

NOT_ON_WINDOWS = pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")


@pytest.fixture
def photos(tmp_path, draw):
    """Four pictures of awe, 0.png to 3.png."""
    (tmp_path / "photos" / "awe").mkdir(parents=True)
    for index in range(4):
        draw(index).save(tmp_path / "photos" / "awe" / f"{index}.png")
    return tmp_path / "photos"


def test_text_files_beside_pictures_are_their_captions(photos, tmp_path):
    awe = photos / "awe"
    (awe / "0.txt").write_bytes("\ufeffa peak,\r\n with snow\n".encode())
    (awe / "1.caption").write_text("a lake", encoding="utf-8")
    (awe / "2.png.txt").write_text("a tree", encoding="utf-8")
    (awe / "readme.txt").write_text("my photos", encoding="utf-8")
    report = prepare(photos, tmp_path / "set")
    captions = {s.id: s.caption for s in TrainingSet.open(tmp_path / "set").samples()}
    assert captions == {
        "awe/0.png": "a peak, with snow",
        "awe/1.png": "a lake",
        "awe/2.png": "a tree",
        "awe/3.png": None,
    }
    assert (report.captions, report.problems, report.notes) == (3, {}, {"other_files": 1})


def test_txt_goes_before_caption_and_neither_is_another_file(photos, read):
    (photos / "awe" / "0.txt").write_text("from txt", encoding="utf-8")
    (photos / "awe" / "0.caption").write_text("from caption", encoding="utf-8")
    found = read(photos)
    assert found.by_name["awe/0.png"].caption == "from txt"
    assert found.tally.notes == {}


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (b"", "empty_caption"),
        (b"\xef\xbb\xbf \r\n\t\n", "empty_caption"),
        (b"caf\xe9", "unreadable_caption"),
        ("a peak".encode("utf-16"), "unreadable_caption"),
        (b"x" * (2 << 20), "unreadable_caption"),
    ],
)
def test_a_caption_that_is_none_is_noted_and_the_picture_stays(photos, read, content, note):
    (photos / "awe" / "0.txt").write_bytes(content)
    found = read(photos)
    assert (found.by_name["awe/0.png"].caption, found.by_name["awe/0.png"].notes) == (None, (note,))
    assert len(found.usable) == 4


@NOT_ON_WINDOWS
def test_a_caption_that_is_a_link_to_elsewhere_is_not_read(photos, tmp_path, read):
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    (photos / "awe" / "0.txt").symlink_to(tmp_path / "secret")
    (photos / "awe" / "1.txt").symlink_to(photos / "awe" / "gone.txt")
    found = read(photos)
    assert [found.by_name[f"awe/{i}.png"].caption for i in (0, 1)] == [None, None]
    assert [found.by_name[f"awe/{i}.png"].notes for i in (0, 1)] == [("unreadable_caption",)] * 2


def test_a_folder_called_like_a_caption_is_no_caption(photos, read):
    (photos / "awe" / "0.txt").mkdir()
    assert read(photos).by_name["awe/0.png"].notes == ()


@pytest.mark.parametrize(
    ("folder", "emotion"),
    [
        ("10_awe", "awe"),
        ("3_Fear", "Fear"),
        ("sad", "sad"),
        ("amused", "amused"),
        ("2024_holiday/fear", "fear"),
        ("sad stories/awe", "awe"),
        ("content/awe", "awe"),
        ("10_nostalgia", "nostalgia"),
        ("10_", "10_"),
    ],
)
def test_emotions_of_folders(tmp_path, draw, read, folder, emotion):
    (tmp_path / "photos" / folder).mkdir(parents=True)
    draw(1).save(tmp_path / "photos" / folder / "1.png")
    assert [record.emotion for record in read(tmp_path / "photos").records] == [emotion]


def test_word_forms_as_folder_names_are_forgiven_and_noted(tmp_path, draw):
    for index, folder in enumerate(("sad", "anger", "excitment", "danger")):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        draw(index).save(tmp_path / "photos" / folder / "1.png")
    report = prepare(tmp_path / "photos", tmp_path / "set")
    assert (report.problems, report.notes) == ({"unknown_emotion": 1}, {"forgiven_label": 2})
    emotions = sorted(s.emotion for s in TrainingSet.open(tmp_path / "set").samples())
    assert emotions == ["anger", "excitement", "sadness"]


def test_pictures_without_labels_are_read_when_named(photos, draw, read):
    (photos / "loose").mkdir()
    draw(9).save(photos / "loose" / "9.png")
    draw(10).save(photos / "10.png")
    (photos / "10.txt").write_text("a pond", encoding="utf-8")
    found = read(photos, "pictures")
    assert {record.emotion for record in found.records} == {None}
    assert len(found.usable) == 6
    assert found.by_name["10.png"].caption == "a pond"


def test_hidden_folders_with_pictures_are_told(photos, draw, read):
    usable = len(read(photos).usable)
    for folder in (".thumbs/fear", ".git/objects", "awe/.trash"):
        (photos / folder).mkdir(parents=True)
    draw(30).save(photos / ".thumbs" / "fear" / "1.png")
    draw(31).save(photos / "awe" / ".trash" / "2.png")
    (photos / ".git" / "objects" / "x").write_text("x", encoding="utf-8")
    found = read(photos)
    assert len(found.usable) == usable
    assert found.tally.examples["hidden_files"][-2:] == [".thumbs/", "awe/.trash/"]
    # A set may lie in a hidden folder of its source, and be prepared again.
    assert read(photos, out=photos / ".thumbs").tally.examples["hidden_files"][-1:] == ["awe/.trash/"]
