"""The plots: points where their values belong, for any values."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from coemogen_train.evaluate.curves import (
    HEIGHT,
    MOST_POINTS,
    WIDTH,
    Curve,
    Track,
    interval_mark,
    loss_curve,
    moving_mean,
    nice_ticks,
    tracks_plot,
)


def coordinates(svg: str) -> np.ndarray:
    paths = re.findall(r'<path d="M([^"]*)"', svg)
    return np.array([[float(n) for n in point.split()] for path in paths for point in path.split(" L")])


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 1), (0.0321, 0.0377), (-5, 3), (2, 2), (0, 0), (1e-7, 3e-7), (12, 130_000), (-1.5, -1.49)],
)
def test_ticks_are_even_round_and_enclose_the_values(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low + 1e-9 * abs(low) and ticks[-1] >= high - 1e-9 * abs(high)
    assert 2 <= len(ticks) <= 7
    assert np.diff(ticks) == pytest.approx(np.full(len(ticks) - 1, ticks[1] - ticks[0]))


def test_moving_mean_agrees_with_numpy_away_from_the_ends() -> None:
    values = np.random.default_rng(0).normal(size=100)
    ours = moving_mean(values.tolist(), 9)
    assert ours[4:-4] == pytest.approx(np.convolve(values, np.ones(9) / 9, "valid"))
    assert (ours[0], ours[-1]) == pytest.approx((values[0], values[-1]))


def test_moving_mean_leaves_out_what_is_not_finite() -> None:
    assert moving_mean([1.0, math.nan, 3.0], 3) == pytest.approx([1.0, 2.0, 3.0])
    assert math.isnan(moving_mean([math.inf], 3)[0])


@pytest.mark.parametrize("count", [1, 2, 50, 130_000])
def test_curve_stays_in_its_box_and_small_at_any_length(count: int) -> None:
    values = np.random.default_rng(1).normal(size=count)
    values[count // 2] = 1e6
    svg = loss_curve(Curve("loss", tuple(range(count)), tuple(values.tolist())))
    points = coordinates(svg)
    assert (points >= 0).all() and (points[:, 0] <= WIDTH).all() and (points[:, 1] <= HEIGHT).all()
    assert len(points) <= 2 * MOST_POINTS + 2


def test_curve_falls_on_the_page_where_its_values_fall() -> None:
    svg = loss_curve(Curve("loss", (10, 20, 30), (3.0, 2.0, 1.0)))
    thin = coordinates(svg)[:3]
    assert (np.diff(thin[:, 0]) > 0).all() and (np.diff(thin[:, 1]) > 0).all()  # y grows downwards


def test_curve_without_a_finite_value_says_so() -> None:
    assert "no finite value" in loss_curve(Curve("loss", (1,), (math.nan,)))


def test_curve_needs_a_step_for_every_value() -> None:
    with pytest.raises(ValueError, match="2 steps and 1 values"):
        Curve("loss", (1, 2), (0.5,))


def test_tracks_show_every_point_with_its_label() -> None:
    svg = tracks_plot([Track("a", ((1.0, 0.2, "<1.5>"), (2.0, 0.4, "3")))], "x", "y")
    assert svg.count("<circle") == 2 and "&lt;1.5&gt;" in svg
    assert "nothing to plot" in tracks_plot([], "x", "y")


def test_interval_mark_is_ordered_and_clipped_to_its_scale() -> None:
    svg = interval_mark(0.5, -0.2, 1.4, "ours")
    low, high = re.findall(r'x1="([\d.]+)" x2="([\d.]+)"', svg)[1]
    dot = re.findall(r'cx="([\d.]+)"', svg)[0]
    assert 0 <= float(low) < float(dot) < float(high) <= 132
