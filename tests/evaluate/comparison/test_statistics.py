"""Intervals and tests of a comparison against scipy, plain transcriptions and simulated truth."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from coemogen_train.evaluate.comparison.result import Estimate
from coemogen_train.evaluate.comparison.statistics import (
    estimate,
    estimates,
    holm,
    paired_test,
    pooled,
    sign_flip_p,
    smallest_exact_p,
)
from coemogen_train.evaluate.intervals import Interval


def figure(*values: float, errors: tuple[float, ...] = ()) -> Estimate:
    return Estimate(float(np.mean(values)), math.nan, math.nan, values, errors)


def picture_interval(value: float, error: float) -> Interval:
    half = stats.norm.ppf(0.975) * error
    return Interval(value, value - half, value + half)


def test_seeds_that_vary_have_students_interval() -> None:
    values = [0.71, 0.78, 0.83, 0.75]
    found = estimate(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found.mean, found.low, found.high) == pytest.approx((np.mean(values), low, high))
    assert found.values == tuple(values)


def test_seeds_that_agree_are_no_surer_than_their_pictures() -> None:
    found = estimate([picture_interval(0.8, 0.03)] * 3)
    assert found.high - found.mean == pytest.approx(1.96 * 0.03 / math.sqrt(3), rel=1e-3)
    assert found.errors == pytest.approx((0.03,) * 3)


def test_one_seed_keeps_the_interval_of_its_pictures() -> None:
    found = estimate([Interval(0.8, 0.71, 0.86)])
    assert (found.mean, found.low, found.high) == (0.8, 0.71, 0.86)


def test_a_figure_without_pictures_or_seeds_has_no_interval() -> None:
    assert math.isnan(estimate([0.8]).low)
    with pytest.raises(ValueError, match="at least one seed"):
        estimate([])


def test_no_interval_leaves_the_bounds_of_its_metric() -> None:
    found = estimates([{"emo_a": picture_interval(v, 0.01)} for v in (0.9, 0.97, 1.0)])["emo_a"]
    assert found.high == 1.0 and found.low < 0.9


def test_only_metrics_that_every_seed_has() -> None:
    seeds = [{"fid": picture_interval(3.0, 0.1), "kid": picture_interval(0.1, 0.01)}]
    assert set(estimates([*seeds, {"fid": picture_interval(3.1, 0.1)}])) == {"fid"}


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_hold_the_truth_where_seeds_and_pictures_vary(seeds: int) -> None:
    generator = np.random.default_rng(seeds)
    held = 0
    for _ in range(400):
        values = 0.6 + generator.normal(0, 0.03, seeds) + generator.normal(0, 0.02, seeds)
        found = estimate([picture_interval(float(value), 0.02) for value in values])
        held += found.low <= 0.6 <= found.high
    assert held >= 0.93 * 400


def test_own_spread_is_the_paired_t_test_of_scipy() -> None:
    first, second = (0.81, 0.84, 0.79, 0.86), (0.77, 0.75, 0.78, 0.80)
    found = paired_test(figure(*first), figure(*second))
    twin = stats.ttest_rel(first, second)
    interval = twin.confidence_interval(0.95)
    assert found.p == found.pair == pytest.approx(twin.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    shifted = stats.ttest_1samp(np.subtract(first, second), 0.05)
    assert paired_test(figure(*first), figure(*second), margin=0.05).p == pytest.approx(shifted.pvalue)


def test_a_difference_at_the_detectable_distance_has_that_p() -> None:
    found = paired_test(figure(0.8, 0.9, 0.7), figure(0.5, 0.7, 0.6))
    distance = found.detectable(0.01)
    assert 2 * stats.t.sf(distance / found.error, 2) == pytest.approx(0.01)


def test_the_pool_is_what_rows_and_seeds_leave_unexplained() -> None:
    table = np.random.default_rng(3).normal(size=(5, 4))
    seeds, rows = np.eye(4)[np.tile(np.arange(4), 5)], np.eye(5)[np.repeat(np.arange(5), 4)]
    design, values = np.hstack([seeds, rows]), table.ravel()
    fitted = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    found = pooled(table.tolist())
    assert found is not None and found.variance == pytest.approx(2 * ((values - fitted) ** 2).sum() / 12)
    assert pooled(table[:3].tolist()) is None  # a pair of three rows would be tested by itself again
    assert pooled(table[:, :1].tolist()) is None


def test_moderated_spread_is_the_mean_of_both_by_their_degrees_of_freedom() -> None:
    table = np.random.default_rng(4).normal(size=(6, 3))
    pool = pooled(table.tolist())
    assert pool is not None
    found = paired_test(figure(*table[0]), figure(*table[1]), pool=pool)
    differences = table[0] - table[1]
    variance = (3 * pool.variance + 2 * differences.var(ddof=1)) / 5
    t = differences.mean() / math.sqrt(variance / 3)
    assert found.freedom == 5
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), 5))


def test_rows_that_differ_alike_at_every_seed_are_no_surer_than_their_pictures() -> None:
    first, second = figure(0.80, 0.85, 0.75, errors=(0.03,) * 3), figure(0.76, 0.81, 0.71, errors=(0.04,) * 3)
    found = paired_test(first, second)
    assert found.p == pytest.approx(2 * stats.norm.sf(0.04 / (0.05 / math.sqrt(3))))
    assert paired_test(figure(0.80, 0.85), figure(0.76, 0.81)).p == 0.5  # no spread known: the exact test


def test_one_seed_tests_nothing() -> None:
    found = paired_test(figure(0.9, errors=(0.01,)), figure(0.1, errors=(0.01,)))
    assert (found.p, found.exact, found.detectable(0.05)) == (1.0, 1.0, math.inf)
    assert 0.7 < found.low < 0.8 < found.high < 0.9


def test_rows_without_common_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="the same seeds"):
        paired_test(figure(0.9, 0.8), figure(0.1))


@pytest.mark.parametrize("values", [(0.1, 0.2, 0.05), (0.1, -0.2, 0.3, 0.4, 0.1), (1.0, 2.0)])
def test_sign_flips_counted_one_by_one(values: tuple[float, ...]) -> None:
    means = [np.dot(signs, values) for signs in itertools.product((1, -1), repeat=len(values))]
    p = np.mean([abs(mean) >= abs(sum(values)) - 1e-12 for mean in means])
    assert sign_flip_p(values) == pytest.approx(p)


def test_few_seeds_leave_the_exact_test_no_power() -> None:
    assert sign_flip_p([1.0, 1.1, 0.9]) == smallest_exact_p(3) == 0.25
    assert smallest_exact_p(5) == 0.0625 and smallest_exact_p(6) < 0.05 and smallest_exact_p(1) == 1.0


def test_holm_as_its_definition_says() -> None:
    ps = [0.01, 0.04, 0.03, 0.005, 0.6]
    # In order 0.005 * 5, 0.01 * 4, 0.03 * 3, 0.04 * 2 (not below the one before), 0.6 * 1.
    assert holm(ps) == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.6])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_holm_rejects_as_its_step_down_rule_does() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        ps = generator.uniform(0, 0.05, 6).tolist()
        rejected: set[int] = set()
        for rank, place in enumerate(np.argsort(ps)):
            if ps[place] > 0.05 / (6 - rank):
                break
            rejected.add(int(place))
        assert {i for i, p in enumerate(holm(ps)) if p <= 0.05} == rejected


def test_a_figure_without_an_interval_over_pictures_has_the_one_over_seeds() -> None:
    nothing = Interval(0.5, float("nan"), float("nan"))
    with_nan = estimate([nothing, Interval(0.7, 0.6, 0.8)])
    assert with_nan == estimate([0.5, 0.7])
    assert math.isfinite(with_nan.low) and math.isfinite(paired_test(with_nan, estimate([0.1, 0.2])).p)
