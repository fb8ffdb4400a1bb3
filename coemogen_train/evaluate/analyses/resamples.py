"""The same resamples of pictures for all figures of an analysis: differences are of the same pictures.

An analysis draws the same starts under many conditions: picture i of one is the pair of picture i of another.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..intervals import LEVEL, RESAMPLES, Interval, stratified_resamples

FloatArray = NDArray[np.float64]


class Resamples:
    """Choices of n pictures with replacement, as many of each group as there are.

    groups: [n], the stratum of every picture.
    """

    def __init__(self, groups: Sequence[Hashable], seed: int = 0, resamples: int = RESAMPLES) -> None:
        if not groups:
            raise ValueError("an interval needs at least one picture")
        self.indices = np.stack(list(stratified_resamples(groups, resamples, seed)))

    def means(self, values: ArrayLike) -> FloatArray:
        """[R + 1] means of [n] values: the pictures' own first, then one per resample."""
        array = np.asarray(values, dtype=np.float64)
        if array.shape != (self.indices.shape[1],):
            raise ValueError(f"{self.indices.shape[1]} pictures, but values of shape {array.shape}")
        return np.concatenate([[array.mean()], array[self.indices].mean(axis=1)])

    def mean(self, values: ArrayLike) -> Interval:
        """The mean of [n] values with its percentile interval."""
        return percentiles(self.means(values))


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
