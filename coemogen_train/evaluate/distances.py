"""Two sets of features compared: KID, and who lies in whose neighbourhood. Pure arithmetic, in float64.

Kernels and distances of all pairs are made in blocks of rows; only a truth value per pair is kept of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

NEIGHBOURS = 5  # of density and coverage, Naeem et al. 2020
NEIGHBOURS_PR = 3  # of precision and recall, Kynkaanniemi et al. 2019
_ENTRIES = 1 << 23


def kernel_distance(first: ArrayLike, second: ArrayLike, weights: ArrayLike | None = None) -> FloatArray:
    """KID: the unbiased squared maximum mean discrepancy under the kernel (x.y / D + 1)^3.

    Of all pairs, not of subsets: the value does not depend on how many pictures there are, but for chance.

    Arguments:
        first, second: [n, D] and [m, D], n and m at least 2.
        weights: [r, n], how often each row of `first` counts, for resamples; pairs of a picture with itself
            are left out, so resamples are no more biased than the sample. None: once each.

    Returns:
        [r] values, which may be below zero, and are no numbers where one picture alone counts; [1] without
        weights.
    """
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    counts = np.ones((1, len(x))) if weights is None else np.asarray(weights, dtype=np.float64)
    within = np.zeros(len(counts))
    across = np.zeros(len(counts))
    for rows in _blocks(len(x), max(len(x), len(y))):
        kernel = _polynomial(x[rows], x)
        kernel[np.arange(len(kernel)), np.arange(len(x))[rows]] = 0.0
        within += ((counts[:, rows] @ kernel) * counts).sum(axis=1)
        across += counts[:, rows] @ _polynomial(x[rows], y).mean(axis=1)
    of_second = 0.0
    for rows in _blocks(len(y), len(y)):
        kernel = _polynomial(y[rows], y)
        of_second += kernel.sum() - kernel[np.arange(len(kernel)), np.arange(len(y))[rows]].sum()
    total = counts.sum(axis=1)
    distinct = total**2 - np.square(counts).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample may be of one picture alone
        of_first = within / distinct
    return of_first + of_second / (len(y) * (len(y) - 1)) - 2 * across / total


def _polynomial(x: FloatArray, y: FloatArray) -> FloatArray:
    return (x @ y.T / x.shape[1] + 1.0) ** 3


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """Generated pictures among real ones.

    precise: [n], 1 where a generated picture lies in a real one's neighbourhood (of 3), else 0.
    density: [n], in how many real neighbourhoods (of 5) it lies, over 5; more than 1 where real pictures are
        dense.
    covers: [n, m], whether generated picture i lies in the neighbourhood (of 5) of real picture j.
    recalls: [n, m], whether real picture j lies in the neighbourhood (of 3) of generated picture i.
    """

    precise: FloatArray
    density: FloatArray
    covers: BoolArray
    recalls: BoolArray

    @staticmethod
    def share(reached: BoolArray, drawn: BoolArray | None = None) -> float:
        """The share of real pictures that any generated one reaches; `drawn` [n]: of these alone."""
        return float((reached if drawn is None else reached[drawn]).any(axis=0).mean())


def neighbourhoods(generated: ArrayLike, real: ArrayLike) -> Neighbourhoods:
    """Precision, recall, density and coverage, per picture.

    A neighbourhood is the ball around a picture that reaches to its k-th nearest other of its own set; with
    few pictures k is what they allow.

    Arguments:
        generated, real: features [n, D] and [m, D], n and m at least 2.
    """
    x, y = np.asarray(generated, dtype=np.float64), np.asarray(real, dtype=np.float64)
    real_radii = _radii(y, (NEIGHBOURS_PR, NEIGHBOURS))
    own_radii = _radii(x, (NEIGHBOURS_PR,))[0]
    precise = np.zeros(len(x))
    density = np.zeros(len(x))
    covers = np.zeros((len(x), len(y)), dtype=bool)
    recalls = np.zeros((len(x), len(y)), dtype=bool)
    for rows in _blocks(len(x), len(y)):
        distances = _distances(x[rows], y)
        precise[rows] = (distances <= real_radii[0]).any(axis=1)
        covers[rows] = distances <= real_radii[1]
        density[rows] = covers[rows].sum(axis=1) / min(NEIGHBOURS, len(y) - 1)
        recalls[rows] = distances <= own_radii[rows, None]
    return Neighbourhoods(precise, density, covers, recalls)


def _radii(points: FloatArray, numbers: tuple[int, ...]) -> FloatArray:
    """[len(numbers), n], the distance of each point to its k-th nearest other."""
    found = np.zeros((len(numbers), len(points)))
    for rows in _blocks(len(points), len(points)):
        distances = _distances(points[rows], points)
        distances[np.arange(len(distances)), np.arange(len(points))[rows]] = -1.0  # itself comes first
        ranks = [min(number, len(points) - 1) for number in numbers]
        found[:, rows] = np.partition(distances, ranks, axis=1)[:, ranks].T
    return found


def _distances(x: FloatArray, y: FloatArray) -> FloatArray:
    squares = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1) - 2.0 * x @ y.T
    return np.sqrt(np.maximum(squares, 0.0))


def spread_of_all_pairs(features: ArrayLike, weights: ArrayLike | None = None) -> FloatArray:
    """Sem-D of one emotion: the mean squared difference of features over all pairs of different pictures.

    With |a - b|^2 summed over all pairs in closed form, no pair has to be drawn.

    Arguments:
        features: [n, D], n at least 2.
        weights: [r, n], how often each picture counts; None: once each. Where they leave a single picture
            there is no pair, and the value is not a number.

    Returns:
        [r], or [1] without weights.
    """
    x = np.asarray(features, dtype=np.float64)
    x = x - x.mean(axis=0)  # the differences stay, and nothing large cancels
    counts = np.ones((1, len(x))) if weights is None else np.asarray(weights, dtype=np.float64)
    total = counts.sum(axis=1)
    sums = 2.0 * (total * (counts @ np.square(x).sum(axis=1)) - np.square(counts @ x).sum(axis=1))
    pairs = total**2 - np.square(counts).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pairs > 0, sums / pairs, np.nan) / x.shape[1]


def dyadic_error(values: ArrayLike, pairs: ArrayLike, members: int) -> float:
    """Standard error of a mean over pairs of pictures, of which each is in several pairs.

    Pairs that share a picture vary together: the variance sums the products of the deviations of all pairs
    that have a picture in common (Aronow, Samii and Assenova 2015), times n / (n - 1).

    Arguments:
        values: [p]. pairs: [p, 2]. members: n, how many pictures the pairs were drawn from.
    """
    array, rows = np.asarray(values, dtype=np.float64), np.asarray(pairs)
    residuals = array - array.mean()
    sums = np.bincount(rows.ravel(), weights=np.repeat(residuals, 2))
    apart = np.square(residuals).sum()  # as if no pair shared a picture: never believe less
    variance = max(np.square(sums).sum() - apart, apart) / len(array) ** 2
    return float(np.sqrt(variance * members / (members - 1)))


def _blocks(count: int, others: int) -> Iterator[slice]:
    """Rows, so many at a time that their kernels with `others` rows fit into 64 MB."""
    step = max(1, _ENTRIES // others)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
