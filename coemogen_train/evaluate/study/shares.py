"""How many answers a few that agree are worth."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def effective_number(values: ArrayLike, clusters: int) -> int:
    """How many independent answers [n] answers of 0 to 1 in so many clusters are worth (Kish), rounded down.

    n / (1 + (n / clusters - 1) rho), rho taken as 1 / (1 + sum of squared deviations). Where all agree
    nothing shows that a cluster (a rater, a pair of pictures, a content) is more than one answer: rho is 1,
    and the number that of the clusters. It nears n as answers vary; how far they then go together within
    clusters is what a bootstrap over clusters sees.
    """
    array = np.asarray(values, dtype=np.float64)
    rho = 1 / (1 + float(((array - array.mean()) ** 2).sum()))
    return max(1, int(len(array) / (1 + (len(array) / clusters - 1) * rho) + 1e-9))
