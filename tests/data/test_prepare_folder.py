"""prepare on a folder per emotion: every file is accounted for, and equal sources give equal bytes."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from coemogen_train.data import PrepareOptions, SplitRule, TrainingSet, prepare, prepare_folder
from coemogen_train.data.report import printable
from coemogen_train.emotions import Emotion, Taxonomy
from coemogen_train.errors import DataError
from coemogen_train.files import sha256_file

NOT_ON_WINDOWS = pytest.mark.skipif(sys.platform == "win32", reason="names that Windows forbids")


def balanced(report) -> bool:
    return report.found == report.usable + sum(report.problems.values())


def test_every_picture_becomes_a_sample_with_its_hash_and_size(sorted_folder, tmp_path):
    report = prepare(sorted_folder, tmp_path / "set")
    samples = TrainingSet.open(tmp_path / "set").samples()
    assert (report.found, report.usable, report.problems) == (20, 20, {})
    assert [s.id for s in samples] == sorted(
        p.relative_to(sorted_folder).as_posix() for p in sorted_folder.rglob("*.png")
    )
    for sample in samples:
        assert sample.sha256 == sha256_file(sample.image)
        assert (sample.width, sample.height, sample.kept, sample.caption) == (24, 20, True, None)
        assert sample.emotion == Path(sample.id).parts[0]


@NOT_ON_WINDOWS
def test_hostile_folder_is_accounted_for_one_by_one(tmp_path, draw):
    source = tmp_path / "src"
    awe, fear = source / "awe", source / "FEAR "
    awe.mkdir(parents=True)
    fear.mkdir()
    names = (
        "a b.png",
        "Größe.png",
        "图.png",
        "line\nbreak.png",
        "[red]x.png",
        "CON.png",
        "q?.png",
        "-rf.png",
    )
    for seed, name in enumerate(names, start=10):
        draw(seed).save(awe / name)
    draw(1).save(awe / "png.jpg", "PNG")
    draw(2, 80, 80).save(awe / "whole.jpg")
    data = (awe / "whole.jpg").read_bytes()
    (awe / "half.jpg").write_bytes(data[: len(data) // 2])
    (awe / "zero.jpg").write_bytes(b"")
    (awe / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic")
    Image.new("RGB", (1, 1)).save(awe / "dot.png")
    draw(3).save(tmp_path / "elsewhere.png")
    (awe / "link.png").symlink_to(tmp_path / "elsewhere.png")
    (awe / "nowhere.png").symlink_to(source / "awe" / "gone.png")
    (awe / "folder.png").symlink_to(fear, target_is_directory=True)
    os.mkfifo(awe / "pipe.png")
    (awe / os.fsdecode(b"latin1-\xe9.png")).write_bytes((awe / "a b.png").read_bytes())
    (awe / "within.jpg").symlink_to(awe / "whole.jpg")
    draw(4).save(fear / "both.png")
    shutil.copy(fear / "both.png", awe / "both too.png")
    (source / "nostalgia").mkdir()
    draw(5).save(source / "nostalgia" / "1.png")
    draw(6).save(source / "loose.png")
    draw(7).save(awe / "no ending", "PNG")
    (awe / "notes.txt").write_text("not a picture", encoding="utf-8")
    (awe / "Thumbs.db").write_bytes(b"\0" * 100)
    (awe / "._a b.png").write_bytes(b"resource fork")

    report = prepare(source, tmp_path / "set")

    assert balanced(report)
    assert report.problems == {
        "conflicting_duplicate": 2,
        "duplicate": 1,
        "empty": 1,
        "missing": 1,
        "no_emotion": 1,
        "not_a_file": 2,
        "outside": 1,
        "too_small": 1,
        "truncated": 1,
        "undecodable": 1,
        "unknown_emotion": 1,
        "unusable_name": 1,
    }
    assert report.usable == 11
    assert report.notes == {"hidden_files": 1, "other_files": 2, "wrong_suffix": 2}
    lines = (tmp_path / "set" / "problems.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == sum(report.problems.values())
    assert {"image": "awe/zero.jpg", "problem": "empty", "detail": "it has no bytes"} in map(
        json.loads, lines
    )


def test_report_is_printed_and_dumped(sorted_folder, tmp_path):
    from rich.console import Console

    (sorted_folder / "awe" / "[bold]broken.jpg").write_bytes(b"x")
    report = prepare(sorted_folder, tmp_path / "set")
    console = Console(width=120, record=True, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    for table in report.tables():
        console.print(table)
    text = console.export_text()
    assert "20 of 21 pictures usable" in text
    assert "awe/[bold]broken.jpg" in text
    assert json.loads(json.dumps(report.to_dict()))["problems"] == {"undecodable": 1}


def test_printable_escapes_and_shortens():
    assert printable("a\nb\x1b[31m\udce9é图") == "a\\nb\\x1b[31m\\udce9é图"
    assert len(printable("x" * 5000)) < 200


def test_folder_names_are_read_forgivingly_and_at_any_depth(tmp_path, draw):
    for index, name in enumerate(
        ("images/AWE/2024", "images/ Fear", "validation/awe", "train/deep/sadness/x")
    ):
        folder = tmp_path / "src" / name
        folder.mkdir(parents=True)
        draw(index).save(folder / "1.png")
    prepare(tmp_path / "src", tmp_path / "set")
    found = {(s.emotion, s.split) for s in TrainingSet.open(tmp_path / "set").samples()}
    assert {("awe", "val"), ("sadness", "train")} <= found
    assert {emotion for emotion, _ in found} == {"awe", "fear", "sadness"}


def test_other_taxonomies_are_kept_in_the_set(tmp_path, draw):
    taxonomy = Taxonomy("two", (Emotion("Calm", "good", 0.5, -0.5), Emotion("on edge", "bad")))
    for index, name in enumerate(("calm", "on_edge", "awe")):
        (tmp_path / "src" / name).mkdir(parents=True)
        draw(index).save(tmp_path / "src" / name / "1.png")
    report = prepare(tmp_path / "src", tmp_path / "set", PrepareOptions(taxonomy=taxonomy))
    opened = TrainingSet.open(tmp_path / "set")
    assert opened.taxonomy == taxonomy
    assert [s.emotion for s in opened.samples()] == ["Calm", "on edge"]
    assert report.problems == {"unknown_emotion": 1}


def test_two_runs_and_any_number_of_workers_write_equal_bytes(sorted_folder, tmp_path, snapshot):
    prepare(sorted_folder, tmp_path / "one", PrepareOptions(workers=1))
    prepare(sorted_folder, tmp_path / "two", PrepareOptions(workers=5))
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")


def test_file_times_do_not_matter_to_a_set(sorted_folder, tmp_path, snapshot):
    prepare(sorted_folder, tmp_path / "set")
    before = snapshot(tmp_path / "set")
    os.utime(sorted_folder / "awe" / "1.png", (1, 1))
    prepare(sorted_folder, tmp_path / "set")
    assert snapshot(tmp_path / "set") == before


def test_pictures_are_found_when_set_and_source_move_together(sorted_folder, tmp_path):
    prepare(sorted_folder, tmp_path / "set")
    (tmp_path / "other").mkdir()
    shutil.move(tmp_path / "set", tmp_path / "other" / "set")
    shutil.move(sorted_folder, tmp_path / "other" / "photos")
    for sample in TrainingSet.open(tmp_path / "other" / "set").samples():
        assert sample.image.is_relative_to(tmp_path / "other")
        assert sample.image.is_file()


def test_pictures_are_found_when_the_set_moves_alone(sorted_folder, tmp_path):
    prepare(sorted_folder, tmp_path / "set")
    shutil.move(tmp_path / "set", tmp_path / "a" / "b" / "set")
    assert all(s.image.is_file() for s in TrainingSet.open(tmp_path / "a" / "b" / "set").samples())


def test_copied_pictures_belong_to_the_set(sorted_folder, tmp_path):
    prepare(sorted_folder, tmp_path / "set", PrepareOptions(copy=True))
    shutil.rmtree(sorted_folder)
    shutil.move(tmp_path / "set", tmp_path / "moved")
    samples = TrainingSet.open(tmp_path / "moved").samples()
    assert len(samples) == 20
    assert all(sha256_file(s.image) == s.sha256 for s in samples)
    assert samples[0].id == "awe/0.png"


def test_set_inside_its_source_does_not_eat_itself(sorted_folder):
    for _ in range(2):
        assert prepare(sorted_folder, sorted_folder / "set", PrepareOptions(copy=True)).found == 20


def test_made_splits_depend_on_content_alone(sorted_folder, tmp_path):
    options = PrepareOptions(splits=SplitRule(val=0.3, test=0.3, seed=1))
    prepare(sorted_folder, tmp_path / "one", options)
    before = {s.sha256: s.split for s in TrainingSet.open(tmp_path / "one").samples()}
    (sorted_folder / "awe" / "0.png").rename(sorted_folder / "awe" / "renamed.png")
    (sorted_folder / "fear" / "1.png").unlink()
    prepare(sorted_folder, tmp_path / "two", options)
    after = {s.sha256: s.split for s in TrainingSet.open(tmp_path / "two").samples()}
    assert len(set(before.values())) == 3
    assert after == {digest: before[digest] for digest in after}


def test_split_shares_are_met_on_average():
    rule = SplitRule()
    splits = [rule.split_of(f"{index:064x}") for index in range(20000)]
    assert abs(splits.count("val") / 20000 - 0.05) < 0.006
    assert abs(splits.count("test") / 20000 - 0.05) < 0.006


def test_impossible_shares_are_refused():
    with pytest.raises(DataError, match="below 1"):
        SplitRule(val=0.5, test=0.5)


def test_nothing_usable_says_what_is_wrong(tmp_path, draw):
    (tmp_path / "src" / "joy").mkdir(parents=True)
    draw(1).save(tmp_path / "src" / "joy" / "1.png")
    with pytest.raises(DataError, match=r"unknown_emotion .*joy/1.png.* amusement"):
        prepare(tmp_path / "src", tmp_path / "set")
    assert not (tmp_path / "set" / "set.json").exists()


def test_missing_source_and_prepared_source_are_refused(sorted_folder, tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        prepare(tmp_path / "nothing", tmp_path / "set")
    prepare(sorted_folder, tmp_path / "set")
    with pytest.raises(DataError, match="already"):
        prepare(tmp_path / "set", tmp_path / "again")
    with pytest.raises(DataError, match="cannot be the folder"):
        prepare_folder(sorted_folder, sorted_folder)


@NOT_ON_WINDOWS
def test_folder_that_cannot_be_listed_is_noted(sorted_folder, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("the administrator may list anything")
    (sorted_folder / "awe").chmod(0)
    try:
        report = prepare(sorted_folder, tmp_path / "set")
    finally:
        (sorted_folder / "awe").chmod(0o755)
    assert report.notes["unreadable_folders"] == 1
