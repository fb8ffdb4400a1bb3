"""The intervals against theory and against scipy's bootstrap."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import scipy.stats

from coemogen_train.evaluate.intervals import (
    Interval,
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_statistic,
    interval_over_seeds,
    share_interval,
    spread_out,
    stratified_resamples,
)


def outcomes(rates: dict[str, float], each: int, seed: int) -> tuple[np.ndarray, list[str]]:
    generator = np.random.default_rng(seed)
    values = np.concatenate([generator.random(each) < rate for rate in rates.values()]).astype(float)
    return values, [name for name in rates for _ in range(each)]


def test_every_resample_keeps_the_number_of_pictures_per_emotion() -> None:
    groups = ["awe", "fear", "awe", "awe", "fear"]
    for indices in islice(stratified_resamples(groups, 50, seed=0), 50):
        drawn = [groups[index] for index in indices]
        assert (drawn.count("awe"), drawn.count("fear")) == (3, 2)


def test_all_pictures_are_drawn_equally_often() -> None:
    groups = ["awe", "fear", "awe", "awe", "fear"]
    drawn = np.concatenate(list(stratified_resamples(groups, 8000, seed=1)))
    assert np.bincount(drawn) / 8000 == pytest.approx(np.ones(5), abs=0.05)


def test_same_seed_same_interval() -> None:
    values, groups = outcomes({"awe": 0.5, "fear": 0.9}, 40, 0)
    assert bootstrap_mean(values, groups, seed=3) == bootstrap_mean(values, groups, seed=3)
    assert bootstrap_mean(values, groups, seed=3) != bootstrap_mean(values, groups, seed=4)


def test_width_is_that_of_the_stratified_binomial() -> None:
    values, groups = outcomes({"awe": 0.1, "fear": 0.9, "anger": 0.5}, 100, 1)
    rates = values.reshape(3, 100).mean(axis=1)
    error = np.sqrt((rates * (1 - rates) / 100).sum()) / 3
    interval = bootstrap_mean(values, groups, resamples=8000)
    assert interval.value == values.mean()
    assert interval.low == pytest.approx(interval.value - 1.96 * error, abs=0.006)
    assert interval.high == pytest.approx(interval.value + 1.96 * error, abs=0.006)


def test_one_stratum_agrees_with_scipy() -> None:
    values = np.random.default_rng(2).gamma(2.0, size=150)
    ours = bootstrap_mean(values, ["all"] * 150, resamples=8000)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=8000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.high, abs=0.02)


def test_difference_of_two_rows_has_the_sum_of_their_variances() -> None:
    first, groups = outcomes({"awe": 0.7, "fear": 0.8}, 150, 3)
    second, other_groups = outcomes({"awe": 0.4, "fear": 0.5}, 100, 4)
    error = np.sqrt(
        sum(
            (v * (1 - v) / n).sum() / 4
            for v, n in ((first.reshape(2, -1).mean(1), 150), (second.reshape(2, -1).mean(1), 100))
        )
    )
    gain = bootstrap_difference(first, groups, second, other_groups, resamples=8000)
    assert gain.value == pytest.approx(first.mean() - second.mean())
    assert gain.low == pytest.approx(gain.value - 1.96 * error, abs=0.008)
    assert gain.high == pytest.approx(gain.value + 1.96 * error, abs=0.008)
    assert gain.excludes_zero


def test_no_difference_includes_zero() -> None:
    values, groups = outcomes({"awe": 0.5, "fear": 0.5}, 60, 5)
    assert not bootstrap_difference(values, groups, values, groups).excludes_zero


def test_statistic_of_indices_is_bootstrapped_like_the_mean() -> None:
    values, groups = outcomes({"awe": 0.3, "fear": 0.6}, 30, 6)
    assert bootstrap_statistic(lambda i: float(values[i].mean()), groups, seed=1) == bootstrap_mean(
        values, groups, seed=1
    )


@pytest.mark.parametrize("count", [0, 1, 7, 12])
def test_a_share_is_never_surer_than_wilson(count: int) -> None:
    values = np.arange(12) < count
    found = share_interval(values, ["awe"] * 6 + ["fear"] * 6)
    wilson = scipy.stats.binomtest(count, 12).proportion_ci(method="wilson")
    assert 0 <= found.low <= wilson.low + 1e-12 and wilson.high - 1e-12 <= found.high <= 1
    assert found.value == pytest.approx(count / 12) and found.low < found.high
    if count in (0, 12):
        assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high))


def test_values_that_are_spread_out_give_the_error_of_a_sample() -> None:
    values = np.random.default_rng(3).normal(size=(2, 12))
    groups = ["awe", "fear", "fear"] * 4
    spread = spread_out(values, groups)
    assert spread.mean(axis=1) == pytest.approx(values.mean(axis=1))
    for group in ("awe", "fear"):
        rows = [i for i, name in enumerate(groups) if name == group]
        assert spread[:, rows].std(axis=1) == pytest.approx(values[:, rows].std(axis=1, ddof=1))


def test_interval_over_seeds_agrees_with_scipy() -> None:
    figures = [0.71, 0.74, 0.69, 0.77, 0.70]
    expected = scipy.stats.ttest_1samp(figures, 0.0).confidence_interval(0.95)
    interval = interval_over_seeds(figures)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("values", "groups"), [([], []), ([1.0, 0.0], ["awe"])])
def test_pictures_without_a_value_are_refused(values: list[float], groups: list[str]) -> None:
    with pytest.raises(ValueError, match="picture"):
        bootstrap_mean(values, groups)


def test_one_seed_has_no_spread() -> None:
    with pytest.raises(ValueError, match="two seeds"):
        interval_over_seeds([0.7])


def test_interval_excludes_zero_on_either_side() -> None:
    assert Interval(-0.2, -0.3, -0.1).excludes_zero
    assert not Interval(0.1, 0.0, 0.2).excludes_zero
