"""Against memorising: the nearest training picture of every generated one, and what is usual for real ones.

Near is the cosine of CLIP features. How near is too near, real held-out pictures say: they were never
trained on, and some resemble a training picture all the same. So the figure is the share of generated
pictures that lie nearer to training than 99% of held-out ones do; 1% is what no memorising at all would give,
if generated pictures were as varied as real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from ..data.embeddings import EmbeddingCache
from ..data.samples import SampleRows
from ..pages import Html, Section, data_uri, join, tag, thumbnail
from .instruments import Features
from .intervals import LEVEL, RESAMPLES, FloatArray, Interval, stratified_resamples

USUAL = 0.99
"""The share of real held-out pictures that lie less near to training than the threshold."""

_BLOCK = 4096
_SIDE = 160  # pixels of a picture on the page


class Pictures(Protocol):
    """Pictures by their places (`pictures.LabelledPictures` has it)."""

    def load(self, i: int) -> Image.Image:
        """Picture i, RGB."""


@dataclass(frozen=True, eq=False)
class Nearest:
    """Of each of n pictures the nearest training picture: its row [n] int64, and the cosine [n] float32."""

    rows: NDArray[np.int64]
    similarities: Features


@dataclass(frozen=True)
class Pair:
    """A generated picture and its nearest training picture, by their places, and the cosine."""

    generated: int
    training: int
    similarity: float


@dataclass(frozen=True)
class Memorising:
    """How near generated pictures are to training, beside real held-out ones.

    threshold: the 99th percentile of the held-out pictures' similarity to their nearest training picture.
    above: share of generated pictures beyond it. median, held_out_median: of the similarities. repeated: the
    most generated pictures that share one nearest training picture. closest: no training picture twice.
    generated, held_out, training: how many pictures there were.
    """

    threshold: float
    above: Interval
    median: float
    held_out_median: float
    repeated: int
    closest: tuple[Pair, ...]
    generated: int
    held_out: int
    training: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**vars(self), "above": self.above.to_dict(), "closest": [vars(pair) for pair in self.closest]}


def nearest(features: ArrayLike, training: Iterable[ArrayLike]) -> Nearest:
    """Find the nearest training picture by cosine; of equals the first.

    Arguments:
        features: [n, D], n at least 1. training: blocks [b, D] that make up all training features, row by
            row; one block of both is compared at a time, so 94,000 x 8,000 pictures need some 200 MB.

    Raises:
        ValueError: no training features, a width that differs, or a vector without direction.
    """
    unit = _unit(features)
    rows = np.full(len(unit), -1, dtype=np.int64)
    best = np.full(len(unit), -np.inf, dtype=np.float32)
    start = 0
    for block in training:
        others = _unit(block)
        for first in range(0, len(unit), _BLOCK):
            part = slice(first, first + _BLOCK)
            cosines = unit[part] @ others.T
            places = cosines.argmax(axis=1)
            found = cosines[np.arange(len(places)), places]
            nearer = found > best[part]
            best[part] = np.where(nearer, found, best[part])
            rows[part] = np.where(nearer, places + start, rows[part])
        start += len(others)
    if not start:
        raise ValueError("there are no training pictures to be near to")
    return Nearest(rows, np.clip(best, -1.0, 1.0))


def memorising(
    generated: Nearest,
    emotions: Sequence[Hashable],
    held_out: Nearest,
    training: int,
    *,
    pairs: int = 12,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Memorising:
    """Compare how near generated and real held-out pictures are to training.

    Arguments:
        generated, held_out: found among the same training pictures, `training` of them.
        emotions: [n], the strata of the generated pictures.
        pairs: how many of the closest to name.

    Returns:
        The share's 95% interval is the wider, on either side, of two: the bootstrap, which draws generated
        and held-out pictures anew, as the threshold is uncertain too; and Wilson's, which knows that no case
        among n does not mean none.
    """
    near, usual = generated.similarities.astype(np.float64), held_out.similarities.astype(np.float64)
    if not len(near) or not len(usual):
        raise ValueError("memorising needs generated and held-out pictures")
    threshold = float(np.quantile(usual, USUAL))
    _, counts = np.unique(generated.rows, return_counts=True)
    return Memorising(
        threshold=threshold,
        above=_share_above(near, emotions, usual, threshold, seed, resamples),
        median=float(np.median(near)),
        held_out_median=float(np.median(usual)),
        repeated=int(counts.max()),
        closest=tuple(_closest(generated, pairs)),
        generated=len(near),
        held_out=len(usual),
        training=training,
    )


def cached_features(cache: EmbeddingCache, samples: SampleRows) -> Iterator[Features]:
    """The CLIP features of a set's samples from its cache, in their order, [b, D] a block."""
    for start in range(0, len(samples), _BLOCK):
        yield cache.embeds_of(samples[start : start + _BLOCK]).numpy()


def memorising_section(
    found: Memorising, generated: Pictures, training: Sequence[Path] | SampleRows, of: str = ""
) -> Section:
    """A part of a report, with the closest pairs side by side.

    Arguments:
        training: the files in the order of the features, or a set's samples. of: whose pictures they are.
    """
    above = found.above
    paragraph = (
        f"{above.value:.1%} of {found.generated:,} generated pictures ({above.low:.1%} to {above.high:.1%}) "
        f"lie nearer to one of {found.training:,} training pictures than 99% of {found.held_out:,} real "
        f"held-out pictures do (cosine of CLIP features above {found.threshold:.3f}); 1% would be no more "
        f"than real pictures do. The median is {found.median:.3f}, that of the held-out ones "
        f"{found.held_out_median:.3f}. At most {found.repeated} share one nearest training picture. The "
        "sheet shows the closest pairs, generated left, training right: whether they are copies, the eye "
        "decides."
    )
    figures = [_pair(pair, generated, training) for pair in found.closest]
    title = f"Nearest training pictures{f' of {of}' if of else ''}"
    return Section(title, paragraph, tag("div", figures, style="display:flex;flex-wrap:wrap;gap:1rem"))


def _pair(pair: Pair, generated: Pictures, training: Sequence[Path] | SampleRows) -> Html:
    from ..data.images import load_rgb

    entry = training[pair.training]
    file = entry if isinstance(entry, Path) else entry.image
    shown = [
        _image(lambda: generated.load(pair.generated), "generated picture"),
        _image(lambda: load_rgb(file), "nearest training picture"),
    ]
    caption = tag("figcaption", f"{pair.similarity:.3f}")
    return tag("figure", tag("div", join(*shown)), caption, style="margin:0")


def _image(load: Callable[[], Image.Image], alt: str) -> Html:
    """A picture, or that it cannot be read: it may be gone by now."""
    from ..data.images import ImageProblem

    try:
        picture = load()
    except (ImageProblem, OSError):
        return tag("span", f"the {alt} cannot be read")
    return tag("img", src=data_uri(thumbnail(picture, _SIDE), "image/jpeg"), alt=alt, height=_SIDE // 2)


def _share_above(
    near: FloatArray,
    emotions: Sequence[Hashable],
    usual: FloatArray,
    threshold: float,
    seed: int,
    resamples: int,
) -> Interval:
    from scipy.stats import binomtest

    count = int((near > threshold).sum())
    ours, theirs = np.random.SeedSequence(seed).spawn(2)
    draws = [
        float((near[i] > np.quantile(usual[j], USUAL)).mean())
        for i, j in zip(
            stratified_resamples(emotions, resamples, ours),
            stratified_resamples([None] * len(usual), resamples, theirs),
            strict=True,
        )
    ]
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    wilson = binomtest(count, len(near)).proportion_ci(LEVEL, method="wilson")
    return Interval(
        count / len(near), min(float(low), float(wilson.low)), max(float(high), float(wilson.high))
    )


def _closest(found: Nearest, pairs: int) -> Iterator[Pair]:
    """The closest pairs of different training pictures, the closest first."""
    shown: set[int] = set()
    for place in np.argsort(-found.similarities, kind="stable").tolist():
        row = int(found.rows[place])
        if len(shown) == pairs:
            return
        if row not in shown:
            shown.add(row)
            yield Pair(place, row, float(found.similarities[place]))


def _unit(features: ArrayLike) -> Features:
    """Rows of length 1, [n, D] float32."""
    array = np.asarray(features, dtype=np.float32)
    if array.ndim != 2 or not np.isfinite(array).all():
        raise ValueError(f"features must be [pictures, width] and finite, not {array.shape}")
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError("a feature vector of length zero has no direction")
    return array / lengths
