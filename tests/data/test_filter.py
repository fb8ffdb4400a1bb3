"""filter: per emotion floor(drop * n) of the worst pairs, ties by id, idempotent and reversible."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from coemogen_train.data import TrainingSet, build_cache, filter_set, prepare
from coemogen_train.data.filter import worst
from coemogen_train.errors import DataError

from .conftest import TinyClip, tree_bytes


@pytest.fixture
def captioned(captioned_table, tmp_path) -> TrainingSet:
    prepare(captioned_table, tmp_path / "set")
    return TrainingSet.open(tmp_path / "set")


@pytest.fixture
def table_with_scores(sorted_folder, tmp_path):
    """Make a set of pictures of awe with a column `score`, by id; None leaves a cell empty."""

    def make(scores: dict[str, object], captions: dict[str, str] | None = None) -> TrainingSet:
        rows = ["image,id,emotion,caption,split,score"]
        for index, (name, score) in enumerate(scores.items()):
            caption = (captions or {}).get(name, f"about {name}")
            cell = "" if score is None else score
            rows.append(
                f"photos/{'awe' if index < 10 else 'fear'}/{index % 10}.png,{name},awe,{caption},train,{cell}"
            )
        (tmp_path / "scores.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        prepare(tmp_path / "scores.csv", tmp_path / "scored")
        return TrainingSet.open(tmp_path / "scored")

    return make


def finished(root: Path) -> dict[str, bytes]:
    """What a set is, without what is left of the work on it."""
    return {name: data for name, data in tree_bytes(root).items() if not name.startswith(".")}


def dropped(of: TrainingSet) -> list[str]:
    return [s.id for s in of.samples() if not s.kept]


def test_equals_a_plain_numpy_computation(captioned, clip):
    report = filter_set(captioned, 0.3, clip)
    cache = build_cache(captioned, clip=clip)
    expected = []
    for emotion in ("awe", "fear"):
        samples = [s for s in captioned.samples("train") if s.emotion == emotion]
        images = np.stack([cache.image_embeds(s.id).double().numpy() for s in samples])
        texts = clip.encode_texts([s.caption for s in samples]).double().numpy()
        scores = (images * texts).sum(1) / np.linalg.norm(images, axis=1) / np.linalg.norm(texts, axis=1)
        order = np.argsort(scores, kind="stable")
        expected += [samples[i].id for i in order[: int(np.floor(0.3 * len(samples)))]]
        stored = {row["id"]: row["similarity"] for row in captioned.similarity_rows()}
        np.testing.assert_allclose([stored[s.id] for s in samples], scores, rtol=1e-12)
    assert dropped(captioned) == sorted(expected)
    assert (report.scored, report.dropped) == (20, 6)


@pytest.mark.parametrize("drop", [0.0, 0.1, 0.2, 0.29, 0.5, 0.99])
@pytest.mark.parametrize("count", [1, 4, 5, 9, 10, 35, 100])
def test_count_dropped_is_the_floor(drop, count):
    similarities = np.arange(count) * 0.1
    assert worst(np.zeros(count, int), similarities, drop).sum() == round(drop * 100) * count // 100


def test_ties_fall_by_id(table_with_scores):
    opened = table_with_scores({name: 0.5 for name in ("c", "a", "e", "b", "d")})
    filter_set(opened, 0.4, column="score")
    assert dropped(opened) == ["a", "b"]


def test_again_and_back(captioned, clip):
    filter_set(captioned, 0.2, clip)
    first = finished(captioned.root)
    filter_set(captioned, 0.2, clip)
    assert finished(captioned.root) == first
    filter_set(captioned, 0.5)
    assert len(dropped(captioned)) == 10
    filter_set(captioned, 0.2)
    assert finished(captioned.root) == first
    filter_set(captioned, 0.0)
    assert dropped(captioned) == []


def test_dry_run_writes_nothing_but_its_page_and_the_cache(captioned, clip):
    before = finished(captioned.root)
    assert filter_set(captioned, 0.2, clip, dry_run=True).dropped == 4
    assert dropped(captioned) == []
    written = {name: data for name, data in finished(captioned.root).items() if not name.startswith("cache/")}
    assert b"A trial" in written.pop("filter-dry-run.html")
    assert written == before


def test_what_a_dry_run_compared_is_not_compared_again(captioned, clip):
    filter_set(captioned, 0.2, clip, dry_run=True)

    def refuse(texts):
        raise AssertionError(texts)

    clip.encode_texts = clip.encode_images = refuse
    assert filter_set(captioned, 0.2, clip).dropped == 4


def test_held_out_and_uncaptioned_pictures_are_kept(sorted_folder, clip, tmp_path):
    table = tmp_path / "t.csv"
    rows = ["image,emotion,caption,split"]
    for index in range(10):
        split = "train" if index < 8 else "test"
        rows.append(f"photos/awe/{index}.png,awe,{'' if index < 3 else f'number {index}'},{split}")
    table.write_text("\n".join(rows), encoding="utf-8")
    prepare(table, tmp_path / "set")
    opened = TrainingSet.open(tmp_path / "set")
    report = filter_set(opened, 0.9, clip)
    assert (report.scored, report.dropped, report.uncaptioned) == (5, 4, 3)
    assert len(opened.samples("test", kept_only=True)) == 2
    assert all(s.kept for s in opened.samples() if not s.caption)


def test_new_caption_is_judged_anew(captioned, clip):
    filter_set(captioned, 0.2, clip)
    victim = dropped(captioned)[0]
    rows = [
        {**row, "caption": "something else" if row["id"] == victim else row["caption"]}
        for row in captioned.caption_rows()
    ]
    captioned.write_captions(rows)
    assert victim not in dropped(captioned)
    with pytest.raises(DataError, match="no similarity yet"):
        filter_set(captioned, 0.2)
    assert filter_set(captioned, 0.2, clip).dropped == 4


def test_another_clip_scores_anew(captioned, clip):
    filter_set(captioned, 0.2, clip)
    other = TinyClip("clip-2")
    filter_set(captioned, 0.2, other)
    assert other.images_seen == 20
    assert {row["encoder"] for row in captioned.similarity_rows()} == {"clip-2"}


def test_one_new_caption_is_the_only_part_computed_anew(captioned, clip):
    filter_set(captioned, 0.2, clip)
    folder = next((captioned.root / "cache").glob("similarities-*"))
    before = {path.name for path in folder.iterdir()}
    rows = captioned.caption_rows()
    rows[3]["caption"] = "something else"
    captioned.write_captions(rows)
    filter_set(captioned, 0.2, clip)
    after = {path.name for path in folder.iterdir()}
    assert len(after) == len(before) and len(after - before) == 1


def test_damaged_part_is_computed_anew(captioned, clip):
    filter_set(captioned, 0.2, clip, dry_run=True)
    part = next((captioned.root / "cache").glob("similarities-*/*.npy"))
    whole = part.read_bytes()
    part.write_bytes(whole[:-3])
    filter_set(captioned, 0.2, clip)
    assert part.read_bytes() == whole


def test_a_column_is_used_as_it_is(table_with_scores):
    opened = table_with_scores({"a": 31.5, "b": -2, "c": 7, "d": "1e-3", "e": 30})
    report = filter_set(opened, 0.4, column="score")
    assert dropped(opened) == ["b", "d"]
    assert {row["encoder"] for row in opened.similarity_rows()} == {"column score"} == {report.encoder}
    assert report.emotions["awe"].lowest_kept == 7.0
    assert filter_set(opened, 0.2).dropped == 1  # without naming it again


def test_a_column_that_changed_is_read_anew_without_naming_it(table_with_scores):
    filter_set(table_with_scores({"a": 1, "b": 2, "c": 3, "d": 4}), 0.25, column="score")
    opened = table_with_scores({"a": 4, "b": 3, "c": 2, "d": 1})
    report = filter_set(opened, 0.25)
    assert (dropped(opened), report.encoder) == (["d"], "column score")
    assert [row["similarity"] for row in opened.similarity_rows()] == [4, 3, 2, 1]


def test_a_verdict_does_not_outlive_a_corrected_label(captioned_table, tmp_path, clip):
    prepare(captioned_table, tmp_path / "set")
    opened = TrainingSet.open(tmp_path / "set")
    filter_set(opened, 0.3, clip)
    before = dropped(opened)
    victim = before[0]
    other = {"awe": "fear", "fear": "awe"}[next(s.emotion for s in opened.samples() if s.id == victim)]
    name = next(s.image.relative_to(tmp_path).as_posix() for s in opened.samples() if s.id == victim)
    lines = captioned_table.read_text(encoding="utf-8").splitlines()
    changed = [
        re.sub(",(awe|fear),", f",{other},", line) if line.startswith(name) else line for line in lines
    ]
    assert sum(a != b for a, b in zip(lines, changed, strict=True)) == 1
    captioned_table.write_text("\n".join(changed), encoding="utf-8")
    prepare(captioned_table, tmp_path / "set")
    assert dropped(TrainingSet.open(tmp_path / "set")) == [key for key in before if key != victim]


@pytest.mark.parametrize("huge", ["1e308", "-1e308", "1e16"])
def test_a_column_of_what_can_be_no_similarity_is_refused(table_with_scores, huge):
    opened = table_with_scores({"a": 1, "b": huge, "c": 0})
    with pytest.raises(DataError, match=r"'score' holds \S+ for 'b' in .* which is no similarity"):
        filter_set(opened, 0.4, column="score")
    assert filter_set(table_with_scores({"a": 100, "b": 1e6, "c": -1e6}), 0.4, column="score").dropped == 1


@pytest.mark.parametrize("bad", [None, "high", "nan", "inf"])
def test_a_column_that_is_no_number_everywhere_is_refused(table_with_scores, bad):
    opened = table_with_scores({"a": 1, "b": bad, "c": bad, "d": 2})
    with pytest.raises(DataError, match=r"'score' holds no number for 2 of 4 .* the first is 'b'"):
        filter_set(opened, 0.2, column="score")
    assert filter_set(table_with_scores({"a": 1, "b": 3}), 0.5, column="score").dropped == 1


def test_an_uncaptioned_picture_needs_no_column(table_with_scores):
    opened = table_with_scores({"a": 1, "b": None, "c": 2}, {"b": ""})
    assert filter_set(opened, 0.5, column="score").to_dict()["uncaptioned"] == 1


def test_a_clip_that_cannot_read_is_told_before_pictures_are_encoded(captioned, clip):
    def refuse(texts):
        raise DataError("half a CLIP")

    clip.encode_texts = refuse
    with pytest.raises(DataError, match="half a CLIP"):
        filter_set(captioned, 0.2, clip)
    assert clip.images_seen == 0


def run(*arguments, **environment):
    command = [sys.executable, "-m", "coemogen_train", "filter", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def test_the_command_answers_as_the_function_does(table_with_scores):
    opened = table_with_scores({name: number for number, name in enumerate("abcdefghij")})
    done = run(opened.root, "--column", "score", "--dry-run", "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert (told["scored"], told["dropped"], told["kept"], told["encoder"]) == (10, 2, 8, "column score")
    assert Path(told["page"]).name == "filter-dry-run.html" and Path(told["page"]).is_file()
    assert told["emotions"]["awe"]["lowest_kept"] == 2.0
    second = run(opened.root, "--column", "score", "--json", RANK="1", WORLD_SIZE="2")
    assert (second.returncode, second.stdout) == (0, "")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--text", "x.safetensors"], "one half of a CLIP"),
        (["--column", "nothing"], "holds no number for 2 of 2"),
    ],
)
def test_mistakes_are_told_in_one_sentence(table_with_scores, options, words):
    done = run(table_with_scores({"a": 1, "b": 2}).root, *options)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr


def test_column_and_clip_together_are_refused(table_with_scores, clip):
    with pytest.raises(DataError, match="a column or from a CLIP"):
        filter_set(table_with_scores({"a": 1}), 0.2, clip, column="score")


def test_what_the_sentence_alone_contradicts_goes_first(table_with_scores):
    """Ten pairs, three of which say another emotion: a fifth of the seven others is one."""
    opened = table_with_scores({name: number for number, name in enumerate("abcdefghij")})
    said = {"a": "awe", "b": "fear", "c": "unclear", "d": None, "e": "anger", "f": "fear"}
    opened.write_captions([{**row, "blind_emotion": said.get(row["id"])} for row in opened.caption_rows()])
    report = filter_set(opened, 0.2, column="score", agree=True)
    assert dropped(opened) == ["a", "b", "e", "f"]
    awe = report.to_dict()["emotions"]["awe"]
    assert (awe["scored"], awe["disagreed"], awe["dropped"], awe["kept"]) == (10, 3, 1, 6)
    assert filter_set(opened, 0.2, column="score").disagreed == 0
    assert dropped(opened) == ["a", "b"]


def test_agreement_with_nobody_is_refused(table_with_scores):
    with pytest.raises(DataError, match="judged blind"):
        filter_set(table_with_scores({"a": 1}), 0.2, column="score", agree=True)


def test_a_rejected_caption_is_no_caption(table_with_scores):
    opened = table_with_scores({name: number for number, name in enumerate("abcde")})
    rows = opened.caption_rows()
    rows[0].update(caption="", draft=rows[0]["caption"], review="rejected")
    opened.write_captions(rows)
    report = filter_set(opened, 0.25, column="score")
    assert (report.scored, report.uncaptioned, dropped(opened)) == (4, 1, ["b"])


@pytest.mark.parametrize("drop", [-0.1, 1.0, float("nan")])
def test_impossible_share_is_refused(captioned, drop):
    with pytest.raises(DataError, match="cannot be dropped"):
        filter_set(captioned, drop)


def test_report_counts_add_up(captioned, clip):
    report = filter_set(captioned, 0.25, clip).to_dict()
    assert report["kept"] + report["dropped"] == report["scored"] == 20
    assert {name: v["dropped"] for name, v in report["emotions"].items() if v["scored"]} == {
        "awe": 2,
        "fear": 2,
    }
    assert filter_set(captioned, 0.25).tables()


def test_set_without_captions_is_refused(sorted_folder, clip, tmp_path):
    prepare(sorted_folder, tmp_path / "set")
    with pytest.raises(DataError, match="caption the set"):
        filter_set(TrainingSet.open(tmp_path / "set"), 0.2, clip)
