"""LPIPS and Sem-D: what pairs of pictures of one emotion differ by, with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from .distances import dyadic_error, spread_of_all_pairs
from .intervals import LEVEL, Interval, bounded, unshrink
from .observations import Observations

FloatArray = NDArray[np.float64]


def pair_figures(observed: Observations, seed: int, resamples: int) -> dict[str, Interval]:
    """LPIPS and Sem-D as the protocol has them; nothing where there are no pairs."""
    if not len(observed.pairs):
        return {}
    found = {"lpips": _over_pairs(observed, observed.lpips)}
    if observed.protocol == "published":
        found["sem_d"] = _over_pairs(observed, observed.sem_d)
    else:
        names = [name for name in observed.names if len(observed.rows(name)) > 1]
        found["sem_d"] = over_all_pairs(observed, names, seed, resamples)
    return found


def _over_pairs(observed: Observations, values: FloatArray) -> Interval:
    """The mean over emotions of the mean over their pairs."""
    turns = np.array(observed.turns)
    names = tuple(dict.fromkeys(observed.turns))
    rows = [np.flatnonzero(turns == name) for name in names]
    means = np.array([values[own].mean() for own in rows])
    if min(len(own) for own in rows) > 2:
        errors = [
            dyadic_error(values[own], observed.pairs[own], _members(observed.pairs[own])) for own in rows
        ]
        error = float(np.sqrt(np.square(errors).sum())) / len(names)
    else:  # so few pairs show no spread of their own: that between the emotions is more
        error = float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else float("nan")
    half = float(student.ppf((1 + LEVEL) / 2, max(len(values) - len(names), 1))) * error
    value = float(means.mean())
    return bounded(value, value - half, value + half, 0.0)


def _members(pairs: NDArray[np.int64]) -> int:
    return len(np.unique(pairs))


def over_all_pairs(observed: Observations, names: Sequence[str], seed: int, resamples: int) -> Interval:
    """Sem-D: the mean over emotions of the mean over all their pairs."""
    generator = np.random.default_rng(seed)
    values, draws = [], []
    for name in names:
        features = observed.clip[observed.rows(name)]
        count = len(features)
        values.append(float(spread_of_all_pairs(features)[0]))
        counts = generator.multinomial(count, np.full(count, 1 / count), size=resamples)
        drawn = spread_of_all_pairs(features, counts)
        away = np.where(np.isnan(drawn), 0.0, drawn - values[-1])
        draws.append(values[-1] + away * unshrink(count))
    low, high = np.quantile(np.mean(draws, axis=0), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if not any(len(observed.rows(name)) > 2 for name in names):
        low = high = float("nan")  # one pair of each: a resample has the same pair or none
    return bounded(float(np.mean(values)), float(low), float(high), 0.0)
