"""filter: per emotion floor(drop * n) of the worst pairs, ties by id, idempotent and reversible."""

import numpy as np
import pytest

from coemogen_train.data import TrainingSet, build_cache, filter_set, prepare
from coemogen_train.data.filter import worst
from coemogen_train.errors import DataError

from .conftest import TinyClip


@pytest.fixture
def captioned(captioned_table, tmp_path) -> TrainingSet:
    prepare(captioned_table, tmp_path / "set")
    return TrainingSet.open(tmp_path / "set")


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
    rows = [{"id": str(i), "emotion": "awe", "similarity": i * 0.1} for i in range(count)]
    assert len(worst(rows, drop)) == round(drop * 100) * count // 100


def test_ties_fall_by_id():
    rows = [{"id": name, "emotion": "awe", "similarity": 0.5} for name in ("c", "a", "e", "b", "d")]
    assert worst(rows, 0.4) == {"a", "b"}


def test_again_and_back(captioned, clip, snapshot):
    filter_set(captioned, 0.2, clip)
    first = snapshot(captioned.root)
    filter_set(captioned, 0.2, clip)
    assert snapshot(captioned.root) == first
    filter_set(captioned, 0.5)
    assert len(dropped(captioned)) == 10
    filter_set(captioned, 0.2)
    assert snapshot(captioned.root) == first
    filter_set(captioned, 0.0)
    assert dropped(captioned) == []


def test_dry_run_reports_and_changes_nothing(captioned, clip):
    assert filter_set(captioned, 0.2, clip, dry_run=True).dropped == 4
    assert dropped(captioned) == []
    assert not (captioned.root / "similarities.parquet").exists()


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
