"""Every figure against an independent computation on the same input."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.spatial.distance import pdist
from sklearn.metrics import accuracy_score
from sklearn.metrics import confusion_matrix as sklearn_confusion

from coemogen_train.evaluate.metrics import (
    confusion_matrix,
    coverage,
    emotion_accuracy,
    frechet_distance,
    pairwise_diversity,
    story_rate,
)

NAMES = ("awe", "fear", "anger")
NARRATIVES = {"awe": ("peak", "whale"), "fear": ("dark", "fall", "dog")}


def features(count: int, width: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(count, width)) @ generator.normal(size=(width, width)) + generator.normal(
        size=width
    )


def frechet_by_scipy(first: np.ndarray, second: np.ndarray) -> float:
    root = sqrtm(np.cov(first.T) @ np.cov(second.T))
    shift = first.mean(0) - second.mean(0)
    return float(
        shift @ shift + np.trace(np.cov(first.T)) + np.trace(np.cov(second.T)) - 2 * np.trace(root).real
    )


def test_accuracy_and_confusion_agree_with_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    seen, meant = (generator.choice(NAMES, 200).tolist() for _ in range(2))
    assert emotion_accuracy(seen, meant) == accuracy_score(meant, seen)
    assert np.array_equal(confusion_matrix(seen, meant, NAMES), sklearn_confusion(meant, seen, labels=NAMES))


def test_confusion_refuses_an_emotion_without_a_row() -> None:
    with pytest.raises(ValueError, match="disgust"):
        confusion_matrix(["disgust"], ["awe"], NAMES)


def test_frechet_agrees_with_scipy() -> None:
    first, second = features(300, 12, 1), features(250, 12, 2)
    assert frechet_distance(first, second) == pytest.approx(frechet_by_scipy(first, second), rel=1e-9)


def test_frechet_of_fewer_pictures_than_features_agrees_with_the_eigenvalues() -> None:
    first, second = features(20, 40, 3), features(25, 40, 4)
    left, right = np.cov(first.T), np.cov(second.T)
    values, vectors = np.linalg.eigh(left)
    root = (
        vectors * np.sqrt(np.clip(values, 0, None)) @ vectors.T
    )  # sqrtm of a singular product is not to be trusted
    inner = np.linalg.eigvalsh(root @ right @ root)
    shift = first.mean(0) - second.mean(0)
    expected = shift @ shift + np.trace(left) + np.trace(right) - 2 * np.sqrt(np.clip(inner, 0, None)).sum()
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)


def test_frechet_of_a_shift_alone_is_its_squared_length() -> None:
    first = features(50, 6, 5)
    shift = np.arange(6.0)
    assert frechet_distance(first, first + shift) == pytest.approx(shift @ shift, rel=1e-9)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)


def test_frechet_of_half_precision_features_is_computed_in_double() -> None:
    first, second = features(60, 8, 6).astype(np.float16), features(60, 8, 7).astype(np.float16)
    expected = frechet_by_scipy(first.astype(np.float64), second.astype(np.float64))
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-8)


def test_diversity_is_the_mean_cosine_distance_of_all_pairs() -> None:
    first, second = features(17, 9, 8), features(23, 9, 9)
    expected = (pdist(first, "cosine").mean() + pdist(second, "cosine").mean()) / 2
    together = np.concatenate([first, second])
    assert pairwise_diversity(together, ["a"] * 17 + ["b"] * 23) == pytest.approx(expected, rel=1e-10)
    assert pairwise_diversity(first) == pytest.approx(pdist(first, "cosine").mean(), rel=1e-10)


def test_coverage_counts_a_narrative_only_from_the_threshold_and_for_its_own_emotion() -> None:
    stories = ["peak", "peak", "whale", None, "dark", "dark", "dark", "peak", "peak"]
    meant = ["awe", "awe", "awe", "awe", "fear", "fear", "fear", "fear", "fear"]
    twice = coverage(stories, meant, NARRATIVES)
    assert twice.reached == {"awe": 1, "fear": 1}
    assert twice.of == {"awe": 2, "fear": 3}
    assert (twice.mean, twice.mean_of) == (1.0, 2.5)
    assert coverage(stories, meant, NARRATIVES, threshold=1).reached == {"awe": 2, "fear": 1}
    assert coverage(stories, meant, NARRATIVES, threshold=3).reached == {"awe": 0, "fear": 1}


def test_story_of_another_emotion_is_no_story() -> None:
    assert story_rate(["peak", "dark", None, "whale"], ["awe", "awe", "awe", "fear"], NARRATIVES) == 0.25


@pytest.mark.parametrize("wrong", [np.zeros((1, 3)), np.zeros(3), np.array([[0.0, np.nan], [1, 1]])])
def test_frechet_refuses_what_has_no_covariance(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="features"):
        frechet_distance(wrong, np.zeros((4, 3)))
