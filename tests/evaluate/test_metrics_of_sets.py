"""KID, precision, recall, density, coverage and the spread of pairs, against plain numpy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist

from coemogen_train.evaluate import distances
from coemogen_train.evaluate.distances import (
    dyadic_error,
    kernel_distance,
    neighbourhoods,
    spread_of_all_pairs,
)
from coemogen_train.evaluate.metrics import frechet_to


def sets(n: int, m: int, width: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, width)), generator.normal(0.4, 1.2, size=(m, width))


def kid_by_loops(x: np.ndarray, y: np.ndarray) -> float:
    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (a @ b / len(a) + 1) ** 3

    within = [np.mean([kernel(a, b) for a, b in itertools.permutations(s, 2)]) for s in (x, y)]
    return float(sum(within) - 2 * np.mean([kernel(a, b) for a in x for b in y]))


def test_kid_is_the_unbiased_estimate_over_all_pairs() -> None:
    x, y = sets(9, 13)
    assert kernel_distance(x, y)[0] == pytest.approx(kid_by_loops(x, y), rel=1e-10)


def test_kid_of_a_resample_counts_no_picture_with_itself() -> None:
    x, y = sets(7, 8)
    counts = np.array([3, 0, 1, 1, 2, 0, 0])
    kernel = (x @ x.T / x.shape[1] + 1) ** 3
    rows = np.repeat(np.arange(7), counts)
    pairs = [(i, j) for i, j in itertools.permutations(rows, 2) if i != j]
    within = np.mean([kernel[i, j] for i, j in pairs])
    full = kernel_distance(x, y)[0]
    plain = np.mean([kernel[i, j] for i, j in itertools.permutations(range(7), 2)])
    across = ((x @ y.T / x.shape[1] + 1) ** 3).mean(axis=1)
    expected = full + within - plain - 2 * (across[rows].mean() - across.mean())
    assert kernel_distance(x, y, counts[None])[0] == pytest.approx(expected, rel=1e-10)


def test_kid_does_not_depend_on_the_blocks_it_is_made_in(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = sets(20, 17)
    whole = kernel_distance(x, y)
    among = neighbourhoods(x, y)
    monkeypatch.setattr(distances, "_ENTRIES", 50)
    assert kernel_distance(x, y) == pytest.approx(whole, rel=1e-12)
    again = neighbourhoods(x, y)
    assert np.array_equal(again.covers, among.covers) and np.array_equal(again.recalls, among.recalls)


def test_precision_recall_density_and_coverage_agree_with_their_definitions() -> None:
    generated, real = sets(40, 30, seed=1)
    among = neighbourhoods(generated, real)
    across = cdist(generated, real)
    radius = {k: np.sort(cdist(real, real), axis=1)[:, k] for k in (3, 5)}
    own = np.sort(cdist(generated, generated), axis=1)[:, 3]
    assert among.precise.mean() == pytest.approx((across <= radius[3]).any(axis=1).mean())
    assert among.share(among.recalls) == pytest.approx((across <= own[:, None]).any(axis=0).mean())
    assert among.density.mean() == pytest.approx((across <= radius[5]).sum() / (5 * len(generated)))
    assert among.share(among.covers) == pytest.approx((across.min(axis=0) <= radius[5]).mean())


def test_one_scene_repeated_is_precise_and_covers_little() -> None:
    _, real = sets(1, 60, seed=2)
    among = neighbourhoods(np.repeat(real[:2], 30, axis=0), real)
    assert among.precise.mean() == 1
    assert among.share(among.covers) < 0.5


def test_sem_d_in_closed_form_is_the_mean_over_all_pairs() -> None:
    features, _ = sets(12, 1, seed=3)
    pairs = [np.square(a - b).mean() for a, b in itertools.combinations(features + 100, 2)]
    assert spread_of_all_pairs(features + 100)[0] == pytest.approx(np.mean(pairs), rel=1e-9)
    counts = np.array([[2, 0, 1, 1, 0, 3, 0, 0, 1, 2, 1, 1], [12] + [0] * 11])
    rows = np.repeat(np.arange(12), counts[0])
    drawn = [
        np.square(features[i] - features[j]).mean() for i, j in itertools.permutations(rows, 2) if i != j
    ]
    found = spread_of_all_pairs(features, counts)
    assert found[0] == pytest.approx(np.mean(drawn), rel=1e-9)
    assert np.isnan(found[1])  # one picture twelve times has no pair


def test_the_error_over_pairs_knows_that_pairs_share_pictures() -> None:
    """The true spread of a mean over a ring of pairs, from many draws of pictures."""
    generator = np.random.default_rng(4)
    count = 60
    pairs = np.stack([np.arange(count), np.roll(np.arange(count), -1)], axis=1)
    means, errors, naive = [], [], []
    for _ in range(400):
        pictures = generator.normal(size=count)
        values = pictures[pairs[:, 0]] + pictures[pairs[:, 1]] + generator.normal(0, 0.3, count)
        means.append(values.mean())
        errors.append(dyadic_error(values, pairs, count))
        naive.append(values.std() / np.sqrt(count))
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.15)
    assert np.mean(naive) < 0.8 * np.std(means)


def test_frechet_to_one_reference_in_blocks_agrees_with_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coemogen_train.evaluate.metrics._BLOCK", 32)
    x, y = sets(100, 90, seed=5)
    root = sqrtm(np.cov(x.T) @ np.cov(y.T))
    shift = x.mean(0) - y.mean(0)
    expected = shift @ shift + np.trace(np.cov(x.T) + np.cov(y.T)) - 2 * np.trace(root).real
    assert frechet_to(y)(x) == pytest.approx(expected, rel=1e-9)
