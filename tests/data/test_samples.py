"""A set is opened whole or refused with a sentence."""

import json

import pytest

from coemogen_train.data import TrainingSet, prepare
from coemogen_train.errors import DataError


def test_counts_are_of_kept_samples_by_emotion_and_split(sorted_folder, tmp_path):
    prepare(sorted_folder, tmp_path / "set")
    counts = TrainingSet.open(tmp_path / "set").counts()
    assert list(counts)[:2] == ["amusement", "awe"]
    assert sum(counts["awe"].values()) == sum(counts["fear"].values()) == 10


def test_samples_are_sorted_and_of_the_split(sorted_folder, tmp_path):
    prepare(sorted_folder, tmp_path / "set")
    opened = TrainingSet.open(tmp_path / "set")
    assert [s.id for s in opened.samples()] == sorted(s.id for s in opened.samples())
    assert {s.split for s in opened.samples("train")} == {"train"}
    with pytest.raises(DataError, match="choose one of train, val, test"):
        opened.samples("holdout")


def test_folder_that_is_no_set_is_refused(tmp_path):
    with pytest.raises(DataError, match="make one with `prepare`"):
        TrainingSet.open(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"format_version": 99}', '{"format_version": 1}'])
def test_broken_set_file_is_refused_by_name(tmp_path, content):
    (tmp_path / "set.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"set\.json"):
        TrainingSet.open(tmp_path)


def test_broken_table_is_refused_by_name(sorted_folder, tmp_path):
    prepare(sorted_folder, tmp_path / "set")
    table = tmp_path / "set" / "samples.parquet"
    table.write_bytes(table.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"samples\.parquet"):
        TrainingSet.open(tmp_path / "set").samples()


def test_set_file_holds_licence_and_origin(sorted_folder, tmp_path):
    from coemogen_train.data import PrepareOptions

    prepare(sorted_folder, tmp_path / "set", PrepareOptions(licence="CC0", origin="my camera"))
    value = json.loads((tmp_path / "set" / "set.json").read_text(encoding="utf-8"))
    assert (value["licence"], value["origin"]) == ("CC0", "my camera")
    assert TrainingSet.open(tmp_path / "set").info.licence == "CC0"
