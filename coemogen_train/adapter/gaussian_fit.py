"""Fitting the Gaussian clusters: one per emotion as in the paper, or several that follow its stories.

One Gaussian per emotion is scikit-learn's Ledoit-Wolf estimate, or plain variances (EmoGen's form). Several
follow the stories that `stories` finds, each covariance drawn towards the one that all stories share. The
likelihood of held-out pictures decides how many stories an emotion has, and how far they are drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ..errors import DataError
from .gaussians import EmotionGaussians
from .stories import Clusters, find_stories, narrowed

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
_TOGETHER = 8192  # rows looked at together
# nu as multiples of the embedding's width, which is how many pictures a covariance needs to be of full rank.
_STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0)


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
            precision, or pictures that show no spread at all.
    """
    from threadpoolctl import threadpool_limits

    groups = _groups(embeds, labels, num_emotions)
    diagonal = covariance == "diagonal"
    # Threads, scikit-learn's own and BLAS's, add up in an order of their own: equal input would give unequal
    # bytes.
    with threadpool_limits(limits=1):
        if components == 1:
            return _pack([_single(group, groups, diagonal) for group in groups])
        most = MAX_COMPONENTS if components == "auto" else components
        counts = [max(1, min(most, len(group) // _PICTURES_PER_STORY)) for group in groups]
        if max(counts) == 1:  # too few pictures to tell stories apart, or to hold some out
            return _pack([_single(group, groups, diagonal) for group in groups])
        if components == "auto":
            counts = _choose_counts(groups, counts, seed)
        strength = _choose_strength(groups, counts, seed, diagonal)
        stories = find_stories(groups, counts, seed, restarts=_RESTARTS)
        return _pack([stories.clusters(emotion, (strength,), diagonal)[0] for emotion in range(num_emotions)])


def _groups(embeds: Tensor, labels: Tensor, num_emotions: int) -> list[Array]:
    """The embeddings [n, V] of each emotion, in double precision."""
    x, emotion_of = embeds.detach().cpu(), labels.detach().cpu()
    if not all(x_of.isfinite().all() for x_of in x.split(_TOGETHER)):
        raise DataError("some image embeddings are not finite: rebuild the cache.")
    groups = [x[emotion_of == emotion].double().numpy() for emotion in range(num_emotions)]
    for emotion, group in enumerate(groups):
        if len(group) == 0:
            raise DataError(f"emotion number {emotion + 1} has no picture to fit its Gaussian on: add some.")
    if max(map(len, groups)) == 1:
        raise DataError("every emotion has one picture only, so nothing shows how they vary: add pictures.")
    return groups


def _choose_counts(groups: list[Array], limits: list[int], seed: int) -> list[int]:
    """For each emotion the number of stories under which its held-out pictures are likeliest."""
    import numpy as np

    narrow = narrowed(groups)
    scores = np.full((max(limits) + 1, len(groups)), -np.inf)
    for count in range(1, max(limits) + 1):
        scores[count] = _held_out(narrow, [min(count, limit) for limit in limits], seed, (1.0,), False)[0]
    return [int(scores[: limit + 1, emotion].argmax()) for emotion, limit in enumerate(limits)]


def _choose_strength(groups: list[Array], counts: list[int], seed: int, diagonal: bool) -> float:
    """The strength, for all emotions, under which held-out pictures are likeliest."""
    scores = _held_out(groups, counts, seed, _STRENGTHS, diagonal)
    return _STRENGTHS[int(scores.sum(axis=1).argmax())]


def _held_out(
    groups: list[Array], counts: list[int], seed: int, strengths: tuple[float, ...], diagonal: bool
) -> Array:
    """[strengths, E]: the summed log likelihood of pictures that the stories were not found on."""
    import numpy as np

    scores = np.zeros((len(strengths), len(groups)))
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(x))[:_PICTURES_TO_CHOOSE_FROM] for x in groups]
    for fold in range(_FOLDS):
        kept = [x[np.delete(order, np.s_[fold::_FOLDS])] for x, order in zip(groups, orders, strict=True)]
        kept = [part if len(part) else x for part, x in zip(kept, groups, strict=True)]
        fold_counts = [max(1, min(k, len(part) // 2)) for k, part in zip(counts, kept, strict=True)]
        stories = find_stories(kept, fold_counts, seed)
        for emotion, (x, order) in enumerate(zip(groups, orders, strict=True)):
            for row, clusters in enumerate(stories.clusters(emotion, strengths, diagonal)):
                scores[row, emotion] += clusters.log_likelihood(x[order[fold::_FOLDS]]).sum()
    return scores


def _single(x: Array, groups: list[Array], diagonal: bool) -> Clusters:
    """The paper's one Gaussian; an emotion with one picture takes its spread from the other emotions'."""
    import numpy as np
    from sklearn.covariance import ledoit_wolf

    residuals = x - x.mean(axis=0)
    if len(x) == 1:
        residuals = np.concatenate([group - group.mean(axis=0) for group in groups])
    spread = residuals.var(axis=0) if diagonal else ledoit_wolf(residuals, assume_centered=True)[0]
    return Clusters(np.ones(1), x.mean(axis=0, keepdims=True), spread[None])


def _pack(clusters: list[Clusters]) -> EmotionGaussians:
    """The tensors of all emotions, padded to the largest K with weights, means and factors of 0."""
    import numpy as np

    most = max(len(part.weights) for part in clusters)
    emotions, width = len(clusters), clusters[0].means.shape[1]
    weights = torch.zeros(emotions, most)
    mean = torch.zeros(emotions, most, width)
    factor = torch.zeros(emotions, most, *clusters[0].covariances.shape[1:], dtype=torch.float16)
    for emotion, part in enumerate(clusters):
        # The likeliest first, so that the order does not hang on the random start.
        for k, source in enumerate(np.argsort(-part.weights, kind="stable")):
            weights[emotion, k] = float(part.weights[source])
            mean[emotion, k] = torch.from_numpy(part.means[source])
            factor[emotion, k] = torch.from_numpy(_root(part.covariances[source])).to(torch.float16)
    if not factor.isfinite().all():
        raise DataError("the image embeddings vary too much for half precision: use a CLIP image encoder.")
    return EmotionGaussians(weights, mean, factor)


def _root(covariance: Array) -> Array:
    """L with L L^T the covariance: [V, V], or the standard deviations [V] of variances [V]."""
    import numpy as np

    if covariance.ndim == 1:
        return np.sqrt(covariance)
    try:
        return np.linalg.cholesky(covariance).astype(np.float64)
    except np.linalg.LinAlgError:  # flat in some direction, as where all pictures are one
        values, vectors = np.linalg.eigh(covariance)
        return vectors * np.sqrt(values.clip(min=0))
