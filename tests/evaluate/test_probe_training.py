"""Training a probe on a set: against scikit-learn on features made without the cache, and what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from coemogen_train.base.vision import ClipEncoder, load_vision
from coemogen_train.data import TrainingSet, prepare, tables
from coemogen_train.errors import DataError
from coemogen_train.evaluate import check_probe, load_probe, report_dict, save_probe, train_probe

# How bright an emotion's pictures are; they overlap, so that no probe is always right.
EMOTIONS = {"awe": 120, "contentment": 140, "fear": 160}
MakeSet = Callable[..., TrainingSet]


@pytest.fixture(scope="module")
def clip() -> ClipEncoder:
    return load_vision("toy")


@pytest.fixture
def make_set(tmp_path: Path) -> MakeSet:
    def make(name: str, splits: dict[str, dict[str, int]], seed: int = 0) -> TrainingSet:
        """splits: {split: {emotion: pictures}}."""
        generator = np.random.default_rng(seed)
        rows = ["image,emotion,split"]
        for split, counts in splits.items():
            for emotion, count in counts.items():
                for number in range(count):
                    brightness = generator.normal(EMOTIONS.get(emotion, 245), 15)
                    values = generator.normal(brightness, 40, (16, 16, 3))
                    file = tmp_path / name / f"{split}-{emotion}-{number}.png"
                    file.parent.mkdir(exist_ok=True)
                    Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(file)
                    rows.append(f"{file.name},{emotion},{split}")
        table = tmp_path / name / "table.csv"
        table.write_text("\n".join(rows) + "\n", encoding="utf-8")
        prepare(table, tmp_path / f"{name}-set")
        return TrainingSet.open(tmp_path / f"{name}-set")

    return make


def features_of(of: TrainingSet, clip: ClipEncoder, splits: tuple[str, ...]) -> tuple[np.ndarray, list[str]]:
    samples = [sample for split in splits for sample in of.samples(split)]
    pictures = [Image.open(sample.image).convert("RGB") for sample in samples]
    return clip.encode_images(pictures).double().numpy(), [sample.emotion for sample in samples]


EVEN = {split: dict.fromkeys(EMOTIONS, n) for split, n in (("train", 30), ("val", 8), ("test", 12))}


def test_probe_of_a_set_is_scikit_learns_on_the_same_features(make_set: MakeSet, clip: ClipEncoder) -> None:
    of = make_set("photos", EVEN)
    report = train_probe(of, clip)
    features, labels = features_of(of, clip, ("train",))
    unseen, true = features_of(of, clip, ("val", "test"))
    theirs = {
        strength: make_pipeline(
            StandardScaler(), LogisticRegression(C=strength, max_iter=5000, tol=1e-6)
        ).fit(features, labels)
        for strength in (0.01, 0.1, 1.0, 10.0)
    }
    seen = report.probe.probabilities(unseen, ["awe", "contentment", "fear"])  # scikit-learn sorts by name
    distances = {c: np.abs(model.predict_proba(unseen) - seen).max() for c, model in theirs.items()}
    best = min(distances, key=lambda strength: distances[strength])
    assert distances[best] < 1e-3
    assert report.scored is not None
    predicted = theirs[best].predict(unseen)
    expected = confusion_matrix(true, predicted, labels=list(report.probe.classes))
    assert report.scored.score.confusion.tolist() == expected.tolist()
    assert report.scored.accuracy.value == pytest.approx(np.mean(predicted == np.array(true)))
    assert 0.5 < report.scored.accuracy.low < report.scored.accuracy.value < report.scored.accuracy.high < 1


def test_floors_tell_what_labelling_would_leave(make_set: MakeSet, clip: ClipEncoder) -> None:
    of = make_set("photos", EVEN)
    report = train_probe(of, clip)
    unseen, true = features_of(of, clip, ("val", "test"))
    shares = report.probe.probabilities(unseen)
    assert report.scored is not None
    for at in report.scored.floors:
        sure = shares.max(axis=1) >= at.floor
        right = [report.probe.classes[i] == t for i, t in zip(shares.argmax(axis=1), true, strict=True)]
        assert at.share == pytest.approx(sure.mean())
        assert at.right == pytest.approx(np.array(right)[sure].mean()) if sure.any() else at.right is None


def test_what_the_filter_dropped_is_used_like_the_rest(make_set: MakeSet, clip: ClipEncoder) -> None:
    of = make_set("photos", EVEN)
    first = train_probe(of, clip).probe
    of.write_captions(
        {"id": s.id, "sha256": s.sha256, "caption": "words", "origin": "given"} for s in of.samples()
    )
    from coemogen_train.data.samples import caption_hash

    of.write_similarities(
        {
            "id": sample.id,
            "sha256": sample.sha256,
            "caption_sha256": caption_hash("words"),
            "emotion": sample.emotion,
            "similarity": 0.1,
            "encoder": "any",
            "kept": number % 2 == 0,
        }
        for number, sample in enumerate(of.samples())
    )
    assert len(of.samples("train", kept_only=True)) < len(of.samples("train"))
    again = train_probe(of, clip).probe
    assert again.trained_on == 90
    assert np.array_equal(first.weight, again.weight)


def test_what_a_probe_labelled_teaches_no_probe(make_set: MakeSet, clip: ClipEncoder) -> None:
    of = make_set("photos", EVEN)
    alone = train_probe(of, clip)
    rows = tables.read_table(of.root / "samples.parquet", tables.SAMPLES)
    for row in rows:
        if row["emotion"] == "awe" and row["image"].endswith(("1.png", "2.png")):
            row["attributes"] = '{"emotion_confidence":"0.9","emotion_from":"probe"}'
    tables.write_table(of.root / "samples.parquet", tables.SAMPLES, rows)
    of.reload()
    report = train_probe(of, clip)
    others = [sample for sample in of.samples() if "emotion_from" not in sample.attributes]
    assert report.probe.trained_on == sum(sample.split == "train" for sample in others) < 90
    assert report.scored is not None and alone.scored is not None
    assert report.scored.score.pictures == sum(sample.split != "train" for sample in others) < 60
    assert "labelled by a probe" in report.notes[0]


def test_emotions_without_pictures_are_told_and_not_learnt(make_set: MakeSet, clip: ClipEncoder) -> None:
    of = make_set("photos", {"train": {"awe": 25, "fear": 5}, "test": {"awe": 12, "fear": 3, "anger": 2}})
    report = train_probe(of, clip)
    assert report.probe.classes == ("awe", "fear")
    notes = " ".join(report.notes)
    assert "No training picture shows amusement, contentment" in notes
    assert "Few training pictures of fear (5)" in notes
    assert "2 pictures of anger are not scored" in notes
    assert "Few scored pictures of fear (3)" in notes
    assert report.scored is not None and report.scored.score.pictures == 15


def test_interval_without_width_is_explained(make_set: MakeSet, clip: ClipEncoder) -> None:
    of = make_set("photos", {"train": {"awe": 20, "anger": 20}, "test": {"awe": 15, "anger": 15}})
    report = train_probe(of, clip)
    assert report.scored is not None and report.scored.accuracy.low == report.scored.accuracy.high == 1
    assert "10.0% of others" in report.notes[-1]


def test_set_without_held_out_pictures_gives_a_probe_that_says_so(
    make_set: MakeSet, clip: ClipEncoder
) -> None:
    report = train_probe(make_set("photos", {"train": dict.fromkeys(EMOTIONS, 20)}), clip)
    assert report.scored is None and report.probe.held_out is None
    assert "no held-out pictures" in report.notes[-1]
    told = report_dict(report)
    assert (told["accuracy"], told["confusion"], told["held_out"]) == (None, None, 0)


def test_one_emotion_is_refused(make_set: MakeSet, clip: ClipEncoder) -> None:
    with pytest.raises(DataError, match="people labelled pictures of awe only"):
        train_probe(make_set("photos", {"train": {"awe": 5}, "test": {"fear": 5}}), clip)


def test_probe_is_scored_on_another_set_by_name(make_set: MakeSet, clip: ClipEncoder) -> None:
    probe = train_probe(make_set("photos", EVEN), clip).probe
    other = make_set("others", {"train": {"fear": 9}, "test": {"fear": 20, "awe": 10, "anger": 3}}, seed=7)
    report = check_probe(probe, other, clip)
    unseen, true = features_of(other, clip, ("test",))
    right = [s == t for s, t in zip(probe.predict(unseen), true, strict=True) if t != "anger"]
    assert report.scored is not None
    assert report.scored.accuracy.value == pytest.approx(np.mean(right))
    assert report.scored.score.pictures == 30 and "3 pictures of anger" in report.notes[0]
    everything = check_probe(probe, other, clip, all_splits=True)
    assert everything.scored is not None and everything.scored.score.pictures == 39


def test_features_of_another_clip_are_refused_before_anything_is_computed(
    make_set: MakeSet, clip: ClipEncoder
) -> None:
    from dataclasses import replace

    of = make_set("photos", EVEN)
    probe = replace(train_probe(of, clip).probe, encoder="0" * 64)
    with pytest.raises(DataError, match="--vision"):
        check_probe(probe, make_set("others", EVEN), clip)
    assert not (of.root.parent / "others-set" / "cache").exists()


def test_command_writes_the_probe_and_its_figures(
    make_set: MakeSet, clip: ClipEncoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from coemogen_train.cli.probe import probe as command

    of = make_set("photos", EVEN)
    path = tmp_path / "probes" / "mine.safetensors"
    data = command(of.root, out=path, vision="toy").data
    again = command(of.root, vision="toy", check=path).data
    assert json.dumps(again["confusion"]) == json.dumps(data["confusion"])
    written = load_probe(path)
    assert written.held_out is not None
    assert written.held_out.accuracy == data["accuracy"]["value"]
    assert written.encoder == clip.fingerprint


@pytest.mark.parametrize(
    "options", [{}, {"check": "p", "out": "q"}, {"out": "q", "all_splits": True}, {"out": "."}]
)
def test_options_that_contradict_each_other_are_refused(tmp_path: Path, options: dict[str, object]) -> None:
    from coemogen_train.cli.probe import probe as command

    paths = {k: tmp_path / v if isinstance(v, str) else v for k, v in options.items()}
    with pytest.raises(DataError, match=r"--out"):
        command(tmp_path, **paths)  # type: ignore[arg-type]


def test_equal_sets_give_equal_probe_files(make_set: MakeSet, clip: ClipEncoder, tmp_path: Path) -> None:
    of = make_set("photos", EVEN)
    for name in ("first", "second"):
        save_probe(train_probe(of, clip).probe, tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
