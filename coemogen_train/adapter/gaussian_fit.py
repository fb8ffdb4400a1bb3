"""Fitting the Gaussian clusters: one per emotion as in the paper, or several that find an emotion's stories.

One Gaussian per emotion is scikit-learn's Ledoit-Wolf estimate (or plain variances, EmoGen's form). Several
are a mixture discriminant analysis (Hastie and Tibshirani 1996): the emotion of every picture is known, its
story is not, and all stories of all emotions share one covariance W while they are being found. A story has
fewer pictures than an embedding has numbers, so its own covariance cannot be estimated from them alone; W
can, from all pictures together. At the end each story's covariance is drawn towards W, the less the more
pictures it has:

    C_k = (N_k S_k + nu W) / (N_k + nu)

The number of stories and nu are those under which held-out pictures are likeliest. numpy and scikit-learn are
imported inside, because this file is also imported where embeddings are only drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from ..errors import DataError
from .gaussians import EmotionGaussians

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

MAX_COMPONENTS = 12
# Fewer pictures than this do not make a story of their own.
_PICTURES_PER_STORY = 5
_FOLDS = 3
# Enough to tell how many stories there are; the final fit sees every picture.
_PICTURES_TO_CHOOSE_FROM = 1500
_RESTARTS = 6
_EM_STEPS = 12
# The shared covariance costs a pass over all pictures and settles sooner than the rest.
_STEPS_PER_COVARIANCE = 3
# nu as multiples of the embedding's width, which is how many pictures a covariance needs to be of full rank.
_PRIOR_STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0)


def fit_gaussians(
    embeds: Tensor,
    labels: Tensor,
    num_emotions: int,
    covariance: Literal["full", "diagonal"] = "full",
    components: int | Literal["auto"] = "auto",
    seed: int = 0,
) -> EmotionGaussians:
    """Fit each emotion's Gaussians to the embeddings of its pictures.

    Args:
        embeds: [n, V], unnormalised image embeddings.
        labels: [n], int64, the index of each picture's emotion.
        num_emotions: E.
        covariance: "full", or "diagonal" (EmoGen's form).
        components: 1 is the paper's single Gaussian; a larger number is lowered where an emotion has fewer
            than 5 pictures for each; "auto" chooses 1 to 12 for each emotion by the likelihood of held-out
            pictures. `EmotionGaussians.components` says what came of it.
        seed: of the random starts; equal input and seed give equal Gaussians.

    Raises:
        DataError: an emotion without pictures, embeddings that are not finite or too large for half
            precision, or all emotions with one picture only, which leaves nothing to measure a spread on.
    """
    import numpy as np
    from threadpoolctl import threadpool_limits

    x = embeds.detach().cpu().double().numpy()
    emotion_of = labels.detach().cpu().numpy()
    if not np.isfinite(x).all():
        raise DataError("some image embeddings are not finite: rebuild the cache.")
    groups = [x[emotion_of == emotion] for emotion in range(num_emotions)]
    for emotion, group in enumerate(groups):
        if len(group) == 0:
            raise DataError(f"emotion number {emotion + 1} has no picture to fit its Gaussian on: add some.")
    if max(map(len, groups)) == 1:
        raise DataError("every emotion has one picture only, so nothing shows how they vary: add pictures.")
    diagonal = covariance == "diagonal"
    if components == 1:
        return _pack([_single(group, groups, diagonal) for group in groups], diagonal)
    most = MAX_COMPONENTS if components == "auto" else components
    counts = [max(1, min(most, len(group) // _PICTURES_PER_STORY)) for group in groups]
    # Threads add up in an order of their own, which would make equal input give unequal bytes.
    with threadpool_limits(limits=1):
        if components == "auto":
            counts = _choose_counts(groups, counts, diagonal, seed)
        strength = _choose_strength(groups, counts, diagonal, seed)
        stories = find_stories(groups, counts, diagonal, seed, restarts=_RESTARTS)
        return _pack([stories.clusters(emotion, strength) for emotion in range(num_emotions)], diagonal)


@dataclass(frozen=True)
class _Clusters:
    """One emotion's Gaussians: weights [K], means [K, V], covariances [K, V, V]."""

    weights: Array
    means: Array
    covariances: Array

    def log_likelihood(self, x: Array) -> Array:
        """[n]: the log density of each row of `x` [n, V]."""
        import numpy as np
        from scipy.linalg import solve_triangular
        from scipy.special import logsumexp

        width = x.shape[1]
        terms = np.empty((len(x), len(self.weights)))
        for k, (weight, mean, covariance) in enumerate(
            zip(self.weights, self.means, self.covariances, strict=True)
        ):
            factor = np.linalg.cholesky(covariance)
            z = solve_triangular(factor, (x - mean).T, lower=True, check_finite=False)
            log_det = np.log(np.diag(factor)).sum()
            terms[:, k] = (
                np.log(weight) - 0.5 * (z**2).sum(axis=0) - log_det - 0.5 * width * np.log(2 * np.pi)
            )
        return logsumexp(terms, axis=1)


@dataclass(frozen=True)
class Stories:
    """What the search found: per emotion the share [n, K] of each picture in each story, and the shared W."""

    groups: list[Array]
    shares: list[Array]
    shared: Array
    diagonal: bool
    log_likelihood: float

    def clusters(self, emotion: int, strength: float) -> _Clusters:
        """The Gaussians of one emotion, each covariance drawn towards W by `strength` (nu, in widths)."""
        import numpy as np

        x, shares = self.groups[emotion], self.shares[emotion]
        counts = shares.sum(axis=0)
        means = (shares.T @ x) / counts[:, None]
        nu = strength * x.shape[1]
        covariances = np.empty((len(counts), *self.shared.shape))
        for k, count in enumerate(counts):
            offset = (x - means[k]) * np.sqrt(shares[:, k : k + 1])
            scatter = _restrict(offset.T @ offset, self.diagonal)
            covariances[k] = (scatter + nu * self.shared) / (count + nu)
        return _Clusters(counts / counts.sum(), means, covariances)


def find_stories(
    groups: list[Array], counts: list[int], diagonal: bool, seed: int, restarts: int = 1
) -> Stories:
    """Expectation maximisation over the stories of all emotions at once, the likeliest of several starts.

    groups: one [n, V] per emotion; counts: K per emotion. A story that loses its pictures is dropped.

    A start is k-means among pictures whitened by the covariance within emotions. In the raw embedding the
    widest differences are those that all emotions share (light, weather, place), and k-means finds these
    instead of the stories; only the last of several starts tries that too.
    """
    import numpy as np

    centred = [x - x.mean(axis=0) for x in groups]
    within = _shared_covariance(sum(x.T @ x for x in centred), np.concatenate(centred), diagonal)
    white = [x @ _whitening(within) for x in groups]
    tries = []
    for attempt in range(restarts):
        points = groups if 0 < attempt == restarts - 1 else white
        first = [_k_means(x, count, seed * 1000 + attempt) for x, count in zip(points, counts, strict=True)]
        tries.append(_maximise(groups, first, diagonal))
    return max(tries, key=lambda stories: stories.log_likelihood)


def _maximise(groups: list[Array], shares: list[Array], diagonal: bool) -> Stories:
    """From first shares [n, K] per emotion to those of a likely mixture with one shared covariance."""
    import numpy as np
    from scipy.special import logsumexp

    total = sum(x.T @ x for x in groups)
    shared = whiten = np.empty(0)
    white: list[Array] = []
    for step in range(_EM_STEPS):
        sizes = [share.sum(axis=0) for share in shares]
        means = [share.T @ x / size[:, None] for x, share, size in zip(groups, shares, sizes, strict=True)]
        if step % _STEPS_PER_COVARIANCE == 0:
            between = sum((mean.T * size) @ mean for mean, size in zip(means, sizes, strict=True))
            offsets = np.concatenate(
                [x - m[s.argmax(1)] for x, m, s in zip(groups, means, shares, strict=True)]
            )
            shared = _shared_covariance(total - between, offsets, diagonal)
            whiten = _whitening(shared)
            white = [x @ whiten for x in groups]
        log_likelihood = 0.0
        shares = []
        for x, mean, size in zip(white, means, sizes, strict=True):
            centre = mean @ whiten
            distance = (x**2).sum(1)[:, None] - 2 * x @ centre.T + (centre**2).sum(1)
            terms = np.log(size / size.sum()) - distance / 2
            norm = logsumexp(terms, axis=1, keepdims=True)
            log_likelihood += float(norm.sum()) + len(x) * float(np.log(np.diag(whiten)).sum())
            shares.append(_without_lost(np.exp(terms - norm)))
    return Stories(groups, shares, shared, diagonal, log_likelihood)


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


def _shared_covariance(scatter: Array, offsets: Array, diagonal: bool) -> Array:
    """W [V, V]: the pooled covariance within stories, shrunk towards its mean variance (Ledoit and Wolf)."""
    import numpy as np
    from sklearn.covariance import ledoit_wolf_shrinkage

    raw = scatter / len(offsets)
    width = len(raw)
    variance = np.trace(raw) / width
    if variance <= 0:
        raise DataError("all pictures of an emotion have one and the same embedding: add different ones.")
    shrinkage = 0.01 if diagonal else max(1e-6, float(ledoit_wolf_shrinkage(offsets, assume_centered=True)))
    return _restrict((1 - shrinkage) * raw + shrinkage * variance * np.eye(width), diagonal)


def _restrict(covariance: Array, diagonal: bool) -> Array:
    import numpy as np

    return np.diag(np.diag(covariance)) if diagonal else covariance


def _choose_counts(groups: list[Array], limits: list[int], diagonal: bool, seed: int) -> list[int]:
    """For each emotion the number of stories under which its held-out pictures are likeliest."""
    import numpy as np

    scores = np.full((max(limits) + 1, len(groups)), -np.inf)
    for count in range(1, max(limits) + 1):
        counts = [min(count, limit) for limit in limits]
        scores[count] = _held_out(groups, counts, diagonal, seed, (1.0,))[0]
    return [int(scores[: limit + 1, emotion].argmax()) for emotion, limit in enumerate(limits)]


def _choose_strength(groups: list[Array], counts: list[int], diagonal: bool, seed: int) -> float:
    scores = _held_out(groups, counts, diagonal, seed, _PRIOR_STRENGTHS)
    return _PRIOR_STRENGTHS[int(scores.sum(axis=1).argmax())]


def _held_out(
    groups: list[Array], counts: list[int], diagonal: bool, seed: int, strengths: tuple[float, ...]
) -> Any:
    """[strengths, E]: the summed log likelihood of pictures that the stories were not found on."""
    import numpy as np

    scores = np.zeros((len(strengths), len(groups)))
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(x))[:_PICTURES_TO_CHOOSE_FROM] for x in groups]
    for fold in range(_FOLDS):
        kept = [x[np.delete(order, np.s_[fold::_FOLDS])] for x, order in zip(groups, orders, strict=True)]
        kept = [part if len(part) else x for part, x in zip(kept, groups, strict=True)]
        fold_counts = [max(1, min(k, len(part) // 2)) for k, part in zip(counts, kept, strict=True)]
        stories = find_stories(kept, fold_counts, diagonal, seed)
        for emotion, (x, order) in enumerate(zip(groups, orders, strict=True)):
            for row, strength in enumerate(strengths):
                clusters = stories.clusters(emotion, strength)
                scores[row, emotion] += clusters.log_likelihood(x[order[fold::_FOLDS]]).sum()
    return scores


def _single(x: Array, groups: list[Array], diagonal: bool) -> _Clusters:
    """The paper's one Gaussian; an emotion with one picture takes its spread from the other emotions'."""
    import numpy as np
    from sklearn.covariance import ledoit_wolf

    residuals = x - x.mean(axis=0)
    if len(x) == 1:
        residuals = np.concatenate([group - group.mean(axis=0) for group in groups])
    if diagonal:
        covariance = np.diag(residuals.var(axis=0))
    else:
        covariance = ledoit_wolf(residuals, assume_centered=True)[0]
    return _Clusters(np.ones(1), x.mean(axis=0, keepdims=True), covariance[None])


def _pack(clusters: list[_Clusters], diagonal: bool) -> EmotionGaussians:
    """The tensors of all emotions, padded to the largest K with weights, means and factors of 0."""
    import numpy as np

    most = max(len(part.weights) for part in clusters)
    width = clusters[0].means.shape[1]
    weights = torch.zeros(len(clusters), most)
    mean = torch.zeros(len(clusters), most, width)
    factor = torch.zeros(len(clusters), most, *([width] if diagonal else [width, width]), dtype=torch.float16)
    for emotion, part in enumerate(clusters):
        # The likeliest first, so that the order does not hang on the random start.
        for k, source in enumerate(np.argsort(-part.weights, kind="stable")):
            weights[emotion, k] = float(part.weights[source])
            mean[emotion, k] = torch.from_numpy(part.means[source])
            root = _root(part.covariances[source], diagonal)
            factor[emotion, k] = torch.from_numpy(root).to(torch.float16)
    if not factor.isfinite().all():
        raise DataError("the image embeddings vary too much for half precision: use a CLIP image encoder.")
    return EmotionGaussians(weights, mean, factor)


def _root(covariance: Array, diagonal: bool) -> Array:
    """L with L L^T the covariance: [V, V], or the standard deviations [V]."""
    import numpy as np

    if diagonal:
        return np.sqrt(np.diag(covariance))
    try:
        return np.linalg.cholesky(covariance).astype(np.float64)
    except np.linalg.LinAlgError:  # flat in some direction, as with as many pictures as numbers, or fewer
        values, vectors = np.linalg.eigh(covariance)
        return vectors * np.sqrt(values.clip(min=0))
