"""How much of a figure is chance: bootstrap intervals over pictures, and the spread over seeds.

Two kinds of chance meet in a figure. Another draw of pictures from the same adapter gives another figure:
that is what `bootstrap_mean` and its companions measure. Another training seed gives another adapter: no
resampling of one adapter's pictures can show that, so where there are several seeds, `interval_over_seeds`
stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A figure with the range that chance leaves it, at confidence `level` (0..1). low and high are no
    numbers where nothing is known of the range.
    """

    value: float
    low: float
    high: float
    level: float = LEVEL

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of zero."""
        return self.low > 0.0 or self.high < 0.0

    def to_dict(self) -> dict[str, float]:
        """The four numbers under their own names."""
        return {"value": self.value, "low": self.low, "high": self.high, "level": self.level}


def stratified_resamples(
    groups: Sequence[Hashable], resamples: int, seed: int | np.random.SeedSequence
) -> Iterator[IndexArray]:
    """Draw pictures with replacement, as many of each group as there were.

    The number of pictures per emotion is our choice and no chance, so it stays fixed.

    Args:
        groups: the stratum of every picture, [n], the intended emotion for instance.
        resamples: how many times to draw.
        seed: equal seeds give equal draws.

    Yields:
        [n] indices into the pictures, ordered by group.
    """
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    strata = np.array([numbers[group] for group in groups], dtype=np.intp)
    order = np.argsort(strata, kind="stable")
    counts = np.bincount(strata)
    sizes = np.repeat(counts, counts)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        yield order[starts + generator.integers(0, sizes)]


def bootstrap_statistic(
    statistic: Callable[[IndexArray], float],
    groups: Sequence[Hashable],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """Percentile interval of any figure that can be computed from a choice of pictures.

    A figure that counts distinct things (coverage, for instance) is lower in every resample than in the
    sample, because a resample repeats pictures: its percentile interval is biased downwards, and should be
    said to be.

    Args:
        statistic: from indices [n] into the pictures to the figure.
        groups: the stratum of every picture, [n], n >= 1.
        seed, resamples, level: as in `stratified_resamples`; level in 0..1.
    """
    _require_pictures(len(groups))
    draws = [statistic(indices) for indices in stratified_resamples(groups, resamples, seed)]
    return _percentiles(statistic(np.arange(len(groups))), np.asarray(draws), level)


def bootstrap_mean(
    values: ArrayLike,
    groups: Sequence[Hashable],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """Percentile interval of a mean over pictures, stratified by `groups`.

    Args:
        values: [n], one number per picture; for an accuracy 1 where the probe saw the intended emotion, else
            0.
        groups: the stratum of every picture, [n].
    """
    array = _values(values, groups)
    return bootstrap_statistic(
        lambda indices: float(array[indices].mean()), groups, seed=seed, resamples=resamples, level=level
    )


def bootstrap_difference(
    first: ArrayLike,
    first_groups: Sequence[Hashable],
    second: ArrayLike,
    second_groups: Sequence[Hashable],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """Percentile interval of mean(first) - mean(second), the two sets of pictures drawn independently.

    Pictures of two methods are not pairs, even where they start from the same noise, so nothing is gained by
    pairing them; independent draws are the cautious choice.

    Args:
        first, second: [n] and [m], one number per picture.
        first_groups, second_groups: their strata, [n] and [m].
    """
    left, right = _values(first, first_groups), _values(second, second_groups)
    left_seed, right_seed = np.random.SeedSequence(seed).spawn(2)
    draws = [
        float(left[i].mean() - right[j].mean())
        for i, j in zip(
            stratified_resamples(first_groups, resamples, left_seed),
            stratified_resamples(second_groups, resamples, right_seed),
            strict=True,
        )
    ]
    return _percentiles(float(left.mean() - right.mean()), np.asarray(draws), level)


def share_interval(
    values: ArrayLike,
    groups: Sequence[Hashable],
    seed: int = 0,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """Interval of a share: the wider of the bootstrap's and Wilson's, on each side.

    Where all pictures agree, all resamples do, and the bootstrap alone would be certain: 12 of 12 pictures
    are compatible with a share of 0.76.

    Args:
        values: [n], 1 where a picture counts, else 0. groups: [n], as in `bootstrap_mean`.
    """
    array = _values(values, groups)
    drawn = bootstrap_mean(spread_out(array, groups), groups, seed=seed, resamples=resamples, level=level)
    return at_least_wilson(drawn, float(array.sum()), len(array))


def at_least_wilson(interval: Interval, count: float, total: int) -> Interval:
    """An interval of `count` of `total`, widened to Wilson's on each side, and within 0 and 1."""
    z = NormalDist().inv_cdf((1 + interval.level) / 2)
    share, scale = count / total, 1 + z**2 / total
    middle = (share + z**2 / (2 * total)) / scale
    half = z * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2) / scale
    low = max(min(interval.low, middle - half, share), 0.0)
    return Interval(share, low, min(max(interval.high, middle + half, share), 1.0), interval.level)


def spread_out(values: ArrayLike, groups: Sequence[Hashable]) -> FloatArray:
    """Values whose resampled mean has the right spread: their distance from their group's mean times the root
    of n / (n - 1), n pictures in the group.

    Drawing n from n with replacement shows the spread of the n, which is smaller than that of the pictures
    they are a sample of; in groups of ten by a twentieth. A group of one shows none either way.

    Args:
        values: [..., n]. groups: [n].
    """
    array = np.array(values, dtype=np.float64)
    for rows in _rows_by_group(groups):
        mean = array[..., rows].mean(axis=-1, keepdims=True)
        array[..., rows] = mean + (array[..., rows] - mean) * unshrink(len(rows))
    return array


def unshrink(count: int) -> float:
    """The root of n / (n - 1); 1 for a single picture, of whose spread nothing is known."""
    return math.sqrt(count / (count - 1)) if count > 1 else 1.0


def _rows_by_group(groups: Sequence[Hashable]) -> list[IndexArray]:
    found: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        found.setdefault(group, []).append(row)
    return [np.array(rows, dtype=np.intp) for rows in found.values()]


def bounded(
    value: float, low: float, high: float, least: float = -math.inf, most: float = math.inf
) -> Interval:
    """An interval that holds its figure and nothing that the figure cannot be; no numbers stay none."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return Interval(value, math.nan, math.nan)
    return Interval(value, max(min(low, value), least), min(max(high, value), most))


def interval_over_seeds(figures: Sequence[float], *, level: float = LEVEL) -> Interval:
    """Mean over training seeds with Student's t interval of that mean.

    Args:
        figures: one figure per seed, at least two.

    Raises:
        ValueError: with fewer than two seeds there is no spread to speak of.
    """
    from scipy.stats import t as student

    if len(figures) < 2:
        raise ValueError("an interval over seeds needs at least two seeds")
    array = np.asarray(figures, dtype=np.float64)
    mean = float(array.mean())
    half = float(student.ppf((1 + level) / 2, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array)))
    return Interval(mean, mean - half, mean + half, level)


def _percentiles(value: float, draws: FloatArray, level: float) -> Interval:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), level)


def _values(values: ArrayLike, groups: Sequence[Hashable]) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    _require_pictures(len(groups))
    if array.shape != (len(groups),):
        raise ValueError(
            f"one value and one group per picture are needed, not {array.shape} and ({len(groups)},)"
        )
    return array


def _require_pictures(count: int) -> None:
    if count == 0:
        raise ValueError("an interval needs at least one picture")
