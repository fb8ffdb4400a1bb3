"""The probe against scikit-learn and against its own definition, and its file against damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from coemogen_train.errors import DataError
from coemogen_train.evaluate import EmotionProbe, fit_probe, load_probe, save_probe

NAMES = ("sadness", "awe", "inner peace")  # not in alphabetical order, on purpose


def pictures(each: int, seed: int, names: tuple[str, ...] = NAMES) -> tuple[np.ndarray, list[str]]:
    centres = np.random.default_rng(100).normal(size=(len(names), 10))
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(len(names) * each, 10)) * np.linspace(0.5, 30, 10)
    labels = [name for name in names for _ in range(each)]
    return np.repeat(centres * np.linspace(1, 30, 10), each, axis=0) + noise + 5.0, labels


@pytest.fixture(scope="module")
def probe() -> EmotionProbe:
    return fit_probe(*pictures(60, 0), NAMES, held_out=pictures(40, 1), backbone="a test", strength=0.5)


def test_probabilities_are_those_of_scikit_learn(probe: EmotionProbe) -> None:
    features, labels = pictures(60, 0)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, max_iter=5000, tol=1e-6)).fit(
        features, labels
    )
    unseen, _ = pictures(30, 2)
    order = [theirs.classes_.tolist().index(name) for name in probe.classes]
    assert probe.probabilities(unseen) == pytest.approx(theirs.predict_proba(unseen)[:, order], abs=1e-4)


def test_fit_is_where_the_penalised_likelihood_is_flat(probe: EmotionProbe) -> None:
    features, labels = pictures(60, 0)
    standard = (features - features.mean(0)) / features.std(0)
    targets = np.eye(3)[[NAMES.index(label) for label in labels]]
    error = softmax(standard @ probe.weight.T + probe.bias, axis=1) - targets
    assert np.abs(0.5 * error.T @ standard + probe.weight).max() < 1e-3
    assert np.abs(error.sum(axis=0)).max() < 1e-3


def test_two_emotions_are_a_multinomial_of_two() -> None:
    names = ("fear", "awe")
    features, labels = pictures(50, 3, names)
    probe = fit_probe(features, labels, names, strength=1.0)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, tol=1e-6)).fit(
        features, [n == "awe" for n in labels]
    )
    assert probe.probabilities(features) == pytest.approx(theirs.predict_proba(features), abs=1e-4)


def test_held_out_score_is_counted_on_the_held_out_pictures(probe: EmotionProbe) -> None:
    features, labels = pictures(40, 1)
    right = [seen == true for seen, true in zip(probe.predict(features), labels, strict=True)]
    assert probe.held_out is not None
    assert probe.held_out.accuracy == np.mean(right) > 0.6
    assert probe.held_out.confusion.sum(axis=1).tolist() == [40, 40, 40]
    assert probe.held_out.confusion.trace() == sum(right)


def test_classes_are_found_by_name_and_not_by_index(probe: EmotionProbe) -> None:
    features, _ = pictures(5, 4)
    by_name = probe.probabilities(features, ["Inner_Peace", "sadness"])
    assert np.array_equal(by_name, probe.probabilities(features)[:, [2, 0]])
    with pytest.raises(DataError, match=r"nostalgia.*sadness, awe, inner peace"):
        probe.probabilities(features, ["nostalgia"])


def test_constant_feature_does_no_harm() -> None:
    features, labels = pictures(20, 5)
    features[:, 3] = 7.7
    assert np.isfinite(fit_probe(features, labels, NAMES, strength=1.0).logits(features)).all()


def test_strength_is_chosen_without_the_held_out_pictures() -> None:
    features, labels = pictures(60, 0)
    first = fit_probe(features, labels, NAMES, held_out=pictures(40, 1))
    second = fit_probe(features, labels, NAMES)
    assert np.array_equal(first.weight, second.weight)


def test_written_and_read_probe_is_the_same_and_so_are_its_bytes(probe: EmotionProbe, tmp_path: Path) -> None:
    first, second = tmp_path / "probe f\u00fcr \u611f\u60c5.safetensors", tmp_path / "again.safetensors"
    save_probe(probe, first)
    back = load_probe(first)
    save_probe(back, second)
    features, _ = pictures(5, 6)
    assert first.read_bytes() == second.read_bytes()
    assert np.array_equal(back.logits(features), probe.logits(features))
    assert back.held_out is not None and probe.held_out is not None
    assert (back.classes, back.backbone, back.held_out.accuracy) == (NAMES, "a test", probe.held_out.accuracy)


@pytest.mark.parametrize("damage", ["cut", "text", "nan", "shape", "nothing known"])
def test_damaged_file_is_named(probe: EmotionProbe, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "probe.safetensors"
    save_probe(probe, path)
    tensors = load_file(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "text":
        path.write_text("not tensors", encoding="utf-8")
    elif damage == "nothing known":
        save_file(tensors, path)
    else:
        save_probe(_broken(probe, damage), path)
    with pytest.raises(DataError, match=r"probe\.safetensors"):
        load_probe(path)


def test_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent"):
        load_probe(tmp_path / "absent.safetensors")


def test_features_of_another_encoder_are_refused(probe: EmotionProbe) -> None:
    with pytest.raises(DataError, match="width 10"):
        probe.predict(np.zeros((2, 11)))


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (["awe"] * 4, ("awe", "fear"), "no training picture of fear"),
        (["awe", "fear", "awe", "joy"], ("awe", "fear"), "joy"),
        (["awe"] * 4, ("awe",), "two different"),
        (["awe"] * 3, ("awe", "fear"), "one row"),
    ],
)
def test_training_pictures_that_do_not_fit_are_refused(
    labels: list[str], classes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        fit_probe(np.zeros((4, 2)), labels, classes)


def _broken(probe: EmotionProbe, damage: str) -> EmotionProbe:
    from dataclasses import replace

    if damage == "nan":
        return replace(probe, bias=np.full(3, np.nan))
    return replace(probe, weight=probe.weight[:, :-1])
