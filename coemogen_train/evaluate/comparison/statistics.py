"""How much of a figure, and of a difference between two rows, is noise.

A figure of one seed comes with the interval that its pictures leave it. Over several seeds, x_1 .. x_n with
the standard errors e_1 .. e_n over pictures, the mean has Student's interval on n - 1 degrees of freedom: the
x_i differ by seed and by pictures alike, so their spread holds both. Three seeds may agree by accident, and
pictures are known to differ: so the interval is never narrower than sqrt(e_1^2 + .. + e_n^2) / n says. (The
modified Knapp-Hartung interval of random effects, doi:10.1186/s12874-015-0091-1, keeps the same floor.)

Two rows are compared by their differences d_1 .. d_n seed by seed, which takes out what a seed's data and
probe do to both; with the same floor, from independent pictures, which is the cautious choice. Three
differences say next to nothing about their own spread: with two degrees of freedom, and thirty claims to
correct for, no difference at all would be decided. So the variance is moderated (Smyth 2004; limma does so
for few replicates): s^2 of the pair, on n - 1 degrees of freedom, is averaged with s0^2 of all fits that
share the seeds, which counts as 3 degrees more: (3 s0^2 + (n - 1) s^2) / (n + 2).

Simulated were tables of one experiment: 11 rows, each of independent fits at 3 or 5 seeds, normal, the pool
these rows alone; 50 claims, by five independent figures of the first row against each other one. The chance
of any false verdict was 0.2% where all rows were equally noisy, 3% where another row was four times as noisy
as the rest, and 6% at worst, where the first row, which is in every claim, was three times as noisy; with
s0^2 alone 4, 37 and 49%. With 30 more rows in the pool it was 7% at worst. Ten more rows that share the first
one's fits raised it (0.2 to 1.4%, 3 to 6%), so rows of one fit must be pooled once. Figures that hang
together, or are far from normal, were not simulated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from ..intervals import LEVEL, Interval
from .measures import measure
from .result import Estimate

Bounds = tuple[float, float]
_UNBOUNDED: Bounds = (-math.inf, math.inf)
_MOST_SEEDS, _FLIPS = 14, 20_000
_FEWEST_ROWS = 4
_POOL_COUNTS_AS = 3
_NORMAL = 1.959964
"""Quantile of the normal distribution at (1 + LEVEL) / 2."""


def estimate(seeds: Sequence[Interval | float], bounds: Bounds = _UNBOUNDED) -> Estimate:
    """A figure over its seeds, with the interval that seeds and pictures together leave it.

    Args:
        seeds: of each seed the figure with its interval over pictures, or the figure alone.
        bounds: the lowest and the highest value that the figure can have; no interval goes beyond.

    Raises:
        ValueError: without any seed.
    """
    if not seeds:
        raise ValueError("an estimate needs at least one seed")
    values = tuple(s.value if isinstance(s, Interval) else float(s) for s in seeds)
    pictures = [s for s in seeds if isinstance(s, Interval)]
    errors = tuple(map(_error, pictures)) if len(pictures) == len(seeds) else ()
    if not all(map(math.isfinite, errors)):  # of a figure of which no spread over pictures can be known
        errors = ()
    mean = sum(values) / len(values)
    only = seeds[0]
    if len(seeds) > 1:
        half = _half_width(values, errors)
        low, high = mean - half, mean + half
    elif isinstance(only, Interval):
        low, high = only.low, only.high
    else:
        low = high = math.nan
    return Estimate(mean, _within(low, bounds), _within(high, bounds), values, errors)


def estimates(seeds: Sequence[Mapping[str, Interval]]) -> dict[str, Estimate]:
    """The metrics of a row from those of its seeds: every metric that all seeds have."""
    if not seeds:
        return {}
    names = [name for name in seeds[0] if all(name in figures for figures in seeds)]
    return {name: estimate([figures[name] for figures in seeds], measure(name).bounds) for name in names}


@dataclass(frozen=True)
class Pool:
    """The variance of a difference of two rows by all fits that share their seeds, and the degrees of freedom
    that it counts as.
    """

    variance: float
    freedom: int


def pooled(rows: Sequence[Sequence[float]]) -> Pool | None:
    """The pool of rows [R][n] of the same n seeds, each of its own fits: twice the mean square
    that is left when rows' means and seeds' means are taken out. None for fewer than four rows, where the
    pair's own would be most of it.
    """
    table = np.asarray(rows, dtype=np.float64)
    if len(rows) < _FEWEST_ROWS or table.shape[1] < 2:
        return None
    left = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + table.mean()
    return Pool(2 * float((left**2).sum() / ((table.shape[0] - 1) * (table.shape[1] - 1))), _POOL_COUNTS_AS)


@dataclass(frozen=True)
class PairedTest:
    """Two rows seed by seed, first - second.

    difference: the mean; low, high: its 95% interval. p: of the moderated paired test, two-sided, of no
    difference, or of one of the margin; pair: of Student's paired test on the pair's own spread; exact: of
    the exact sign-flip test, which needs no normal distribution but many seeds; all 1 with one seed, where
    there is nothing to test. error: standard error of the difference, on so many degrees of freedom.
    """

    difference: float
    low: float
    high: float
    p: float
    pair: float
    exact: float
    seeds: int
    error: float
    freedom: int
    differences: tuple[float, ...] = ()

    def detectable(self, level: float) -> float:
        """The distance from the margin that has p = level, with as many seeds and as much spread; infinite
        with one seed.
        """
        if self.seeds < 2:
            return math.inf
        return _t_quantile(1 - level / 2, self.freedom) * self.error


def paired_test(
    first: Estimate, second: Estimate, margin: float = 0.0, pool: Pool | None = None
) -> PairedTest:
    """Compare two rows whose values are of the same seeds in the same order.

    Args:
        first, second: the rows' figures.
        margin: the difference that is tested against, in the metric's own unit.
        pool: the spread of all rows with these seeds; None: the pair's own alone.

    Raises:
        ValueError: the rows have different numbers of seeds, or none.
    """
    from scipy.special import ndtr, stdtr

    n = len(first.values)
    if not n or n != len(second.values):
        raise ValueError(f"a paired test needs the same seeds in both rows, not {n} and {len(second.values)}")
    differences = np.subtract(first.values, second.values)
    mean = float(differences.mean())
    known = len(first.errors) == n == len(second.errors)
    errors = tuple(np.hypot(first.errors, second.errors).tolist()) if known else ()
    floor, told = math.sqrt(sum(error**2 for error in errors)) / n, tuple(differences.tolist())
    if n == 1:
        half = _NORMAL * floor if known else math.nan
        return PairedTest(mean, mean - half, mean + half, 1.0, 1.0, 1.0, 1, floor, 0, told)
    exact, own = sign_flip_p(differences - margin), _spread(differences)
    spread, freedom = own, n - 1
    if pool is not None:
        freedom += pool.freedom
        spread = math.sqrt((pool.freedom * pool.variance + (n - 1) * n * own**2) / freedom / n)
    half = max(_t_quantile((1 + LEVEL) / 2, freedom) * spread, _NORMAL * floor)

    def p(error: float, degrees: int) -> float:
        """Where nothing is known of the spread, what the exact test says, which needs none."""
        chances = [2 * float(stdtr(degrees, -abs(mean - margin) / error))] if error else []
        if floor:
            chances.append(2 * float(ndtr(-abs(mean - margin) / floor)))
        return max(chances, default=exact)

    return PairedTest(
        mean,
        mean - half,
        mean + half,
        p(spread, freedom),
        p(own, n - 1),
        exact,
        n,
        max(spread, floor),
        freedom,
        told,
    )


def sign_flip_p(differences: ArrayLike) -> float:
    """Two-sided p of the mean under all 2^n choices of signs (above 14 seeds: 20,000 random ones)."""
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        return 1.0
    if len(values) <= _MOST_SEEDS:
        signs = np.array(list(product((1.0, -1.0), repeat=len(values))))
    else:
        signs = np.random.default_rng(0).choice((1.0, -1.0), (_FLIPS, len(values)))
        signs[0] = 1.0  # what was seen is one of the choices
    reached = np.abs(signs @ values) >= abs(values.sum()) * (1 - 1e-12)
    return float(reached.mean())


def smallest_exact_p(seeds: int) -> float:
    """What the sign-flip test gives at best: 0.25 with 3 seeds, 0.0625 with 5."""
    return min(1.0, 2.0 ** (1 - seeds))


def holm(ps: Sequence[float]) -> list[float]:
    """p values corrected for their number by Holm's method, in the order given.

    The i-th smallest of m, from i = 0, times m - i; never below that of a smaller one, never above 1.
    """
    corrected, running = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        running = max(running, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = running
    return corrected


def _error(interval: Interval) -> float:
    """The standard error of a figure that has this interval."""
    from scipy.special import ndtri

    return float((interval.high - interval.low) / (2 * ndtri((1 + interval.level) / 2)))


def _spread(values: ArrayLike) -> float:
    """Standard error of the mean by the spread of the values; 0 where they differ by rounding alone."""
    array = np.asarray(values, dtype=np.float64)
    spread = float(array.std(ddof=1) / np.sqrt(len(array)))
    return spread if spread > 1e-12 * float(np.abs(array).max()) else 0.0


def _half_width(values: Sequence[float], errors: Sequence[float]) -> float:
    """Half the 95% interval of the mean of n > 1 values with these standard errors over pictures."""
    n = len(values)
    pictures = _NORMAL * math.sqrt(sum(error**2 for error in errors)) / n
    return max(_t_quantile((1 + LEVEL) / 2, n - 1) * _spread(values), pictures)


def _t_quantile(share: float, freedom: int) -> float:
    """Of Student's distribution. (By scipy.special, whose functions of one number are quick.)"""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, share))


def _within(value: float, bounds: Bounds) -> float:
    return min(max(value, bounds[0]), bounds[1]) if math.isfinite(value) else value
