"""The figures that a set of pictures gets: pure arithmetic on labels, stories and features, in float64.

Nothing here knows an encoder or a file. Emotions go by name everywhere, because classifiers order theirs
differently.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_BLOCK = 8192


def correct(predicted: Sequence[str], intended: Sequence[str]) -> FloatArray:
    """1 where the predicted emotion is the intended one, else 0: [n], what the bootstrap resamples."""
    _same_length(predicted, intended)
    return np.array([p == i for p, i in zip(predicted, intended, strict=True)], dtype=np.float64)


def emotion_accuracy(predicted: Sequence[str], intended: Sequence[str]) -> float:
    """Emo-A: the share of all pictures together in which the probe sees the intended emotion."""
    return float(correct(predicted, intended).mean())


def confusion_matrix(predicted: Sequence[str], intended: Sequence[str], names: Sequence[str]) -> IntArray:
    """Count what the probe saw in what was meant.

    Args:
        predicted, intended: [n] emotion names.
        names: order of rows and columns, [E]; every emotion that occurs must be among them.

    Returns:
        [E, E] counts; rows are the intended emotion, columns the predicted one.
    """
    _same_length(predicted, intended)
    index = {name: number for number, name in enumerate(names)}
    unknown = {*predicted, *intended} - set(index)
    if unknown:
        raise ValueError(f"no row for {sorted(unknown)} in the confusion matrix")
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, ([index[i] for i in intended], [index[p] for p in predicted]), 1)
    return counts


@dataclass(frozen=True)
class Coverage:
    """Which narratives of each emotion a set of pictures reaches, and how many there are."""

    reached: Mapping[str, int]
    of: Mapping[str, int]

    @property
    def mean(self) -> float:
        """Narratives reached per emotion, on average."""
        return sum(self.reached.values()) / len(self.reached)

    @property
    def mean_of(self) -> float:
        """Narratives that there are per emotion, on average."""
        return sum(self.of.values()) / len(self.of)


def coverage(
    stories: Sequence[Hashable | None],
    intended: Sequence[str],
    narratives: Mapping[str, Collection[Hashable]],
    *,
    threshold: int = 2,
) -> Coverage:
    """Count the narratives of an emotion that at least `threshold` of its pictures tell.

    One picture may be an accident, hence two. The figure grows with the number of pictures per emotion, so
    only rows of equal numbers may be compared.

    Args:
        stories: [n], the id of the narrative that each picture tells, or None; a story of another emotion
            than the intended one counts for neither.
        intended: [n] emotion names, all of them keys of `narratives`.
        narratives: the ids of every emotion's narratives.
        threshold: pictures that a narrative needs to count as reached, at least 1.
    """
    _same_length(stories, intended)
    if threshold < 1:
        raise ValueError("a narrative needs at least one picture to be reached")
    tellings = Counter(zip(intended, stories, strict=True))
    reached = {
        emotion: sum(tellings[emotion, story] >= threshold for story in set(ids))
        for emotion, ids in narratives.items()
    }
    return Coverage(reached, {emotion: len(set(ids)) for emotion, ids in narratives.items()})


def tells_its_story(
    stories: Sequence[Hashable | None],
    intended: Sequence[str],
    narratives: Mapping[str, Collection[Hashable]],
) -> FloatArray:
    """1 where a picture tells one of the intended emotion's narratives, else 0: [n]."""
    _same_length(stories, intended)
    return np.array(
        [
            story is not None and story in narratives[emotion]
            for story, emotion in zip(stories, intended, strict=True)
        ],
        dtype=np.float64,
    )


def story_rate(
    stories: Sequence[Hashable | None],
    intended: Sequence[str],
    narratives: Mapping[str, Collection[Hashable]],
) -> float:
    """The share of pictures that tell a narrative of the intended emotion; arguments as in `coverage`."""
    return float(tells_its_story(stories, intended, narratives).mean())


def frechet_distance(first: ArrayLike, second: ArrayLike) -> float:
    """Squared Frechet distance between the Gaussians of two feature sets: the FID, on any features.

    |m1 - m2|^2 + Tr(S1) + Tr(S2) - 2 Tr((S1 S2)^(1/2)), with the unbiased covariances.

    The root of S1 S2, taken directly, is unstable where a covariance is singular, which it is whenever there
    are fewer pictures than features. With S = R^T R, R from a QR factorisation of the centred features, the
    eigenvalues of S1 S2 are the squared singular values of R1 R2^T, so the trace of the root is their sum: no
    covariance, no complex numbers, no jitter.

    The value depends on the number of pictures (few pictures, large distance): compare equal numbers only.

    Args:
        first, second: [n, D] and [m, D], n and m at least 2, any float type; computed in float64.
    """
    return frechet_to(second)(first)


def frechet_to(reference: ArrayLike) -> Callable[[ArrayLike], float]:
    """`frechet_distance` of many sets to one, of which the costly part is then made once."""
    right = _feature_set(reference, 2)
    mean, root = right.mean(axis=0), _covariance_root(right)

    def distance(features: ArrayLike) -> float:
        left = _feature_set(features, 2)
        if left.shape[1] != len(mean):
            raise ValueError(f"features of widths {left.shape[1]} and {len(mean)} cannot be compared")
        shift, left_root = left.mean(axis=0) - mean, _covariance_root(left)
        overlap = np.linalg.svd(left_root @ root.T, compute_uv=False).sum()
        found = shift @ shift + np.square(left_root).sum() + np.square(root).sum() - 2.0 * overlap
        return max(float(found), 0.0)  # rounding can leave -1e-13 for equal sets

    return distance


def pairwise_diversity(features: ArrayLike, groups: Sequence[Hashable] | None = None) -> float:
    """Mean cosine distance of all pairs of pictures within a group, averaged over the groups.

    Every pair counts, not a sample of pairs: with unit vectors u the sum of u_i . u_j over all ordered pairs
    is |sum u|^2, so nothing of size n x n is made.

    Args:
        features: [n, D] image features.
        groups: [n], usually the intended emotion; None is one group. Groups of one picture have no pair and
            are left out.

    Returns:
        0 where all pictures of a group point the same way, about 1 where they are unrelated.
    """
    vectors = _feature_set(features, 1)
    labels = list(groups) if groups is not None else [None] * len(vectors)
    _same_length(vectors, labels)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError("a feature vector of length zero has no direction")
    unit = vectors / lengths
    members: dict[Hashable, list[int]] = {}
    for number, label in enumerate(labels):
        members.setdefault(label, []).append(number)
    distances = [_mean_pair_distance(unit[rows]) for rows in members.values() if len(rows) > 1]
    if not distances:
        raise ValueError("diversity needs a group of at least two pictures")
    return float(np.mean(distances))


def _mean_pair_distance(unit: FloatArray) -> float:
    count = len(unit)
    total = unit.sum(axis=0)
    return float(1.0 - (total @ total - count) / (count * (count - 1)))


def _covariance_root(features: FloatArray) -> FloatArray:
    """R with R^T R = the unbiased covariance: [min(n, D), D]. Of many pictures a block at a time: R of the
    blocks' R's is R of them all."""
    mean = features.mean(axis=0)
    starts = range(0, len(features), _BLOCK)
    roots = [np.linalg.qr(features[start : start + _BLOCK] - mean, mode="r") for start in starts]
    root = roots[0] if len(roots) == 1 else np.linalg.qr(np.concatenate(roots), mode="r")
    return root / np.sqrt(len(features) - 1)


def _feature_set(features: ArrayLike, minimum: int) -> FloatArray:
    array = np.asarray(features, dtype=np.float64)
    if array.ndim != 2 or len(array) < minimum:
        raise ValueError(
            f"features must be [pictures, width] with at least {minimum} pictures, not {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError("features must be finite")
    return array


def _same_length(first: Sequence[object] | FloatArray, second: Sequence[object]) -> None:
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} entries cannot belong to the same pictures")
    if len(first) == 0:
        raise ValueError("there are no pictures to measure")
