"""How far raters agree on the same pairs, beyond chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def krippendorff_alpha(counts: ArrayLike) -> float | None:
    """Krippendorff's alpha for names without an order (nominal), any number of raters, gaps allowed.

    1 - (observed disagreement) / (the disagreement of answers dealt at random), from the matrix of
    coincidences: Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011.

    Args:
        counts: [units, names], how many raters gave each name; units with fewer than two raters say nothing.

    Returns:
        1 for full agreement, 0 for chance; None where no unit has two raters or all say one and the same.
    """
    table = np.asarray(counts, dtype=np.float64)
    table = table[table.sum(axis=1) >= 2]
    coincidences = _coincidences(table)
    totals = coincidences.sum(axis=1)
    everything = totals.sum()
    expected = (everything**2 - np.square(totals).sum()) / (everything - 1) if everything > 1 else 0.0
    if expected <= 0:
        return None
    observed = everything - np.trace(coincidences)
    return float(1 - observed / expected)


def agreeing_share(counts: ArrayLike) -> float | None:
    """The share of agreeing pairs of raters, over all units; None where no unit has two raters.

    counts: as in `krippendorff_alpha`.
    """
    table = np.asarray(counts, dtype=np.float64)
    pairs = table.sum(axis=1) * (table.sum(axis=1) - 1)
    return float((table * (table - 1)).sum() / pairs.sum()) if pairs.sum() else None


def _coincidences(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """[names, names]: ordered pairs of answers within a unit, each unit weighted by 1 / (raters - 1)."""
    share = table / (table.sum(axis=1, keepdims=True) - 1)
    return table.T @ share - np.diag(share.sum(axis=0))
