"""An order of methods from paired preferences: P(i is preferred to j) = 1 / (1 + exp(s_j - s_i))."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

PRIOR = 0.5
_STEPS, _LONGEST, _CLOSE = 50, 2.0, 1e-9


def bradley_terry(wins: ArrayLike, prior: float = PRIOR) -> NDArray[np.float64]:
    """Strengths of many tables of wins at once, by Newton's method.

    Args:
        wins: [..., M, M], how often the row's method was preferred to the column's; no difference counts half
            for each.
        prior: wins that every pair that was ever compared (in any of the tables) gets in either direction, so
            that a method that never lost has a finite strength, too. 0.5 says: as if one rater more had seen
            no difference.

    Returns:
        [..., M], on the scale of log odds, with mean 0.
    """
    table = np.asarray(wins, dtype=np.float64)
    methods = table.shape[-1]
    compared = (table + np.swapaxes(table, -1, -2)).reshape(-1, methods, methods).sum(axis=0) > 0
    table = table + prior * compared
    games = table + np.swapaxes(table, -1, -2)
    strength = np.zeros(table.shape[:-1])
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(strength[..., None, :] - strength[..., :, None]))
        slope = (table - games * chance).sum(axis=-1)
        curvature = games * chance * (1 - chance)
        information = -curvature + curvature.sum(axis=-1)[..., None] * np.eye(methods)
        # All strengths may be shifted alike: the ones take that freedom away, and keep the mean.
        step = np.linalg.solve(information + 1 / methods, slope[..., None])[..., 0]
        strength = strength + np.clip(step, -_LONGEST, _LONGEST)
        if np.abs(step).max(initial=0.0) < _CLOSE:
            break
    return strength - strength.mean(axis=-1, keepdims=True)
