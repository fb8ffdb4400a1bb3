"""Finding the stories of each emotion among the embeddings of its pictures.

A mixture discriminant analysis (Hastie and Tibshirani 1996): the emotion of every picture is known, its story
is not, and all stories of all emotions share one covariance W. A story has fewer pictures than an embedding
has numbers, so its own covariance cannot be estimated from them alone; W can, from all pictures together.
numpy, scipy and scikit-learn are imported inside: where embeddings are only drawn, nothing here is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_EM_STEPS = 12
# The shared covariance costs a pass over all pictures and settles sooner than the rest.
_STEPS_PER_COVARIANCE = 3
# Stories are told apart in at most so many principal directions; a wider space costs its square.
_SEARCH_WIDTH = 192
# A picture with less than this share in a story does not move the story's covariance.
_LEAST_SHARE = 1e-6


@dataclass(frozen=True)
class Clusters:
    """One emotion's Gaussians: weights [K], means [K, V], covariances [K, V, V] or variances [K, V]."""

    weights: Array
    means: Array
    covariances: Array

    def log_likelihood(self, x: Array) -> Array:
        """[n]: the log density of each row of `x` [n, V]."""
        import numpy as np
        from scipy.linalg import solve_triangular
        from scipy.special import logsumexp

        terms = np.empty((len(x), len(self.weights)))
        for k, covariance in enumerate(self.covariances):
            offset = x - self.means[k]
            if covariance.ndim == 1:
                z, scales = offset / np.sqrt(covariance), np.sqrt(covariance)
            else:
                factor = np.linalg.cholesky(covariance)
                z, scales = (
                    solve_triangular(factor, offset.T, lower=True, check_finite=False).T,
                    np.diag(factor),
                )
            terms[:, k] = np.log(self.weights[k]) - 0.5 * (z**2).sum(axis=1) - np.log(scales).sum()
        return logsumexp(terms, axis=1) - 0.5 * x.shape[1] * np.log(2 * np.pi)


@dataclass(frozen=True)
class Stories:
    """What the search found.

    groups: per emotion the embeddings [n, V]; shares: per emotion each picture's share [n, K] in each story;
    shared: W [V, V]; log_likelihood: of all pictures in the space of the search, to compare starts by.
    """

    groups: list[Array]
    shares: list[Array]
    shared: Array
    log_likelihood: float

    def clusters(self, emotion: int, strengths: tuple[float, ...], diagonal: bool) -> list[Clusters]:
        """One emotion's Gaussians, for each of several strengths nu (in widths V) by which W draws them:

        C_k = (N_k S_k + nu W) / (N_k + nu), with S_k the covariance of story k's N_k pictures.
        """
        import numpy as np

        x, shares = self.groups[emotion], self.shares[emotion]
        counts = shares.sum(axis=0)
        means = (shares.T @ x) / counts[:, None]
        shared = np.diag(self.shared) if diagonal else self.shared
        scatters = np.stack(
            [_scatter(x, mean, share, diagonal) for mean, share in zip(means, shares.T, strict=True)]
        )
        sizes = counts.reshape(-1, *[1] * shared.ndim)
        nus = [strength * x.shape[1] for strength in strengths]
        return [Clusters(counts / counts.sum(), means, (scatters + nu * shared) / (sizes + nu)) for nu in nus]


def find_stories(groups: list[Array], counts: list[int], seed: int, restarts: int = 1) -> Stories:
    """Expectation maximisation over the stories of all emotions at once, the likeliest of several starts.

    groups: one [n, V] per emotion; counts: K per emotion. A story that loses its pictures is dropped.

    A start is k-means among pictures whitened by the covariance within emotions. In the raw embedding the
    widest differences are those that all emotions share (light, weather, place), and k-means finds these
    instead of the stories; only the last of several starts tries that too.

    Raises:
        DataError: all pictures of every emotion have one embedding.
    """
    narrow = narrowed(groups)
    white = [x @ _whitening(within_covariance(narrow)) for x in narrow]
    tries = []
    for attempt in range(restarts):
        points = narrow if 0 < attempt == restarts - 1 else white
        first = [_k_means(x, count, seed * 1000 + attempt) for x, count in zip(points, counts, strict=True)]
        tries.append(_maximise(narrow, first))
    shares, log_likelihood = max(tries, key=lambda found: found[1])
    return Stories(groups, shares, _covariance_within_stories(groups, shares), log_likelihood)


def narrowed(groups: list[Array], limit: int = _SEARCH_WIDTH) -> list[Array]:
    """The groups in the `limit` directions in which an emotion's pictures differ most; unchanged below it."""
    import numpy as np

    if groups[0].shape[1] <= limit:
        return groups
    directions = np.linalg.eigh(within_covariance(groups))[1][:, -limit:]
    return [x @ directions for x in groups]


def within_covariance(groups: list[Array]) -> Array:
    """[V, V]: the shrunk covariance of pictures about their emotion's mean."""
    import numpy as np

    return _covariance_within_stories(groups, [np.ones((len(x), 1)) for x in groups])


def _maximise(groups: list[Array], shares: list[Array]) -> tuple[list[Array], float]:
    """From first shares [n, K] per emotion to those of a likely mixture with one shared covariance."""
    import numpy as np
    from scipy.special import logsumexp

    white: list[Array] = []
    whiten = np.empty(0)
    for step in range(_EM_STEPS):
        if step % _STEPS_PER_COVARIANCE == 0:
            whiten = _whitening(_covariance_within_stories(groups, shares))
            white = [x @ whiten for x in groups]
        log_likelihood = 0.0
        found = []
        for x, share in zip(white, shares, strict=True):
            size = share.sum(axis=0)
            centre = share.T @ x / size[:, None]
            distance = (x**2).sum(axis=1)[:, None] - 2 * x @ centre.T + (centre**2).sum(axis=1)
            terms = np.log(size / size.sum()) - distance / 2
            norm = logsumexp(terms, axis=1, keepdims=True)
            log_likelihood += float(norm.sum()) + len(x) * float(np.log(np.diag(whiten)).sum())
            found.append(_without_lost(np.exp(terms - norm)))
        shares = found
    return shares, log_likelihood


def _without_lost(shares: Array) -> Array:
    """The shares [n, K] without stories that hold less than one picture, the rest adding up to 1 again."""
    # The share that an even split would give is met by some story; the margin is for rounding.
    kept = shares[:, shares.sum(axis=0) >= 0.999 * min(1.0, len(shares) / shares.shape[1])]
    return kept / kept.sum(axis=1, keepdims=True)


def _k_means(x: Array, count: int, seed: int) -> Array:
    """[n, K]: each picture wholly in one of scikit-learn's k-means clusters."""
    import numpy as np
    from sklearn.cluster import KMeans

    if count == 1:
        return np.ones((len(x), 1))
    return _without_lost(np.eye(count)[KMeans(count, n_init=2, random_state=seed % 2**32).fit(x).labels_])


def _whitening(covariance: Array) -> Array:
    """M [V, V], upper triangular, such that rows x @ M have the identity as covariance."""
    import numpy as np

    return np.linalg.inv(np.linalg.cholesky(covariance)).T


def _scatter(x: Array, mean: Array, share: Array, diagonal: bool) -> Array:
    """Sum of share * (x - mean) (x - mean)^T, [V, V], or of its diagonal, [V]."""
    import numpy as np

    members = share > _LEAST_SHARE
    offset = (x[members] - mean) * np.sqrt(share[members, None])
    return (offset**2).sum(axis=0) if diagonal else offset.T @ offset


def _covariance_within_stories(groups: list[Array], shares: list[Array]) -> Array:
    """W [V, V]: the covariance about the stories' means, shrunk to its mean variance (Ledoit and Wolf)."""
    import numpy as np
    from sklearn.covariance import ledoit_wolf_shrinkage

    total = between = np.zeros(())
    about, filled = np.empty((sum(map(len, groups)), groups[0].shape[1])), 0
    for x, share in zip(groups, shares, strict=True):
        size = share.sum(axis=0)
        mean = share.T @ x / size[:, None]
        total = total + x.T @ x
        between = between + (mean.T * size) @ mean
        np.subtract(x, mean[share.argmax(axis=1)], out=about[filled : filled + len(x)])
        filled += len(x)
    raw = (total - between) / len(about)
    variance = np.trace(raw) / len(raw)
    if not variance > 1e-12 * np.trace(total) / len(about):
        raise DataError("all pictures of an emotion have one and the same embedding: add different ones.")
    shrinkage = max(1e-6, float(ledoit_wolf_shrinkage(about, assume_centered=True)))
    return (1 - shrinkage) * raw + shrinkage * variance * np.eye(len(raw))
