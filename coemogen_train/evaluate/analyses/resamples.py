"""The same resamples of pictures for all figures of an analysis: differences are of the same pictures.

An analysis draws the same starts under many conditions: picture i of one is the pair of picture i of another.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..intervals import LEVEL, RESAMPLES, Interval, at_least_wilson, spread_out, stratified_resamples
from ..study.shares import effective_number

FloatArray = NDArray[np.float64]


class Resamples:
    """Choices of n pictures with replacement, as many of each group as there are.

    groups: [n], the stratum of every picture.
    """

    def __init__(self, groups: Sequence[Hashable], seed: int = 0, resamples: int = RESAMPLES) -> None:
        if not groups:
            raise ValueError("an interval needs at least one picture")
        self.groups: list[Hashable] | None = list(groups)
        self.clusters = len(groups)
        self.indices = np.stack(list(stratified_resamples(groups, resamples, seed)))

    @classmethod
    def nested(cls, clusters: int, each: int, seed: int = 0, resamples: int = RESAMPLES) -> Resamples:
        """Choices of clusters and, within each that is chosen, of its `each` pictures.

        Pictures stand cluster by cluster. Other clusters might have been chosen, and differ from these.
        """
        own = cls([0] * (clusters * each), seed, resamples=1)
        dice = np.random.default_rng(seed)
        chosen = dice.integers(0, clusters, (resamples, clusters, 1))
        pictures = dice.integers(0, each, (resamples, clusters, each))
        own.indices = (chosen * each + pictures).reshape(resamples, -1)
        own.groups, own.clusters = None, clusters
        return own

    def means(self, values: ArrayLike) -> FloatArray:
        """[R + 1] means of [n] values: the pictures' own first, then one per resample."""
        array = np.asarray(values, dtype=np.float64)
        if array.shape != (self.indices.shape[1],):
            raise ValueError(f"{self.indices.shape[1]} pictures, but values of shape {array.shape}")
        # Drawing clusters and their pictures shows more spread than there is, not less: nothing is added.
        wide = array if self.groups is None else spread_out(array, self.groups)
        return np.concatenate([[array.mean()], wide[self.indices].mean(axis=1)])

    def mean(self, values: ArrayLike) -> Interval:
        """The mean of [n] values with its percentile interval."""
        return percentiles(self.means(values))

    def share(self, values: ArrayLike) -> Interval:
        """The mean of [n] zeros and ones: the wider of the percentile interval and Wilson's.

        Where all agree no resample differs, and the percentiles alone would look certain.
        """
        array = np.asarray(values, dtype=np.float64)
        number = effective_number(array, self.clusters)
        return at_least_wilson(self.mean(array), float(array.mean()) * number, number)

    def difference(self, first: ArrayLike, second: ArrayLike, level: float = LEVEL) -> Interval:
        """Mean of first less second, zeros and ones of the same [n] pictures: the wider of the percentile
        interval and Newcombe's for paired shares.
        """
        one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
        drawn = percentiles(self.means(one - two), level)
        number = min(effective_number(one, self.clusters), effective_number(two, self.clusters))
        low, high = _newcombe(one, two, number, level)
        return Interval(drawn.value, max(-1.0, min(drawn.low, low)), min(1.0, max(drawn.high, high)), level)


def _newcombe(first: FloatArray, second: FloatArray, number: int, level: float) -> tuple[float, float]:
    """(low, high) of a difference of paired shares: Newcombe, 1998, his tenth method."""
    p, q = float(first.mean()), float(second.mean())
    one = at_least_wilson(Interval(p, p, p, level), p * number, number)
    two = at_least_wilson(Interval(q, q, q, level), q * number, number)
    both, spread = float((first * second).mean()), np.sqrt(p * (1 - p) * q * (1 - q))
    together = both - p * q
    if together > 0:  # agreement that is too slight to be told from none makes nothing narrower
        together = max(together - 1 / (2 * number), 0.0)
    phi = together / spread if spread > 0 else 0.0

    def reach(left: float, right: float) -> float:
        return float(np.sqrt(max(left**2 - 2 * phi * left * right + right**2, 0.0)))

    return p - q - reach(p - one.low, two.high - q), p - q + reach(one.high - p, q - two.low)


def percentiles(draws: FloatArray, level: float = LEVEL) -> Interval:
    """The interval of [R + 1] figures, the pictures' own first."""
    low, high = np.quantile(draws[1:], [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(draws[0]), float(low), float(high), level)


def told(interval: Interval, digits: int = 2, sign: str = "") -> str:
    """An interval in a sentence: "0.62 (0.50 to 0.73)"; sign "+": of differences."""
    value, low, high = (
        f"{number:{sign}.{digits}f}" for number in (interval.value, interval.low, interval.high)
    )
    return f"{value} ({low} to {high})"
