"""From what the instruments saw to the metrics of the tables, each with its interval.

Every interval is over the generated pictures, drawn anew within each emotion; the real pictures, the probes
and the adapter stay as they are (another training seed is another adapter: `interval_over_seeds`).

* Means over pictures (Emo-A, polarity, Sem-C, story, precision, density): percentiles of 2,000 resamples. Of
  shares, which are all but Sem-C and density, the wider of that and Wilson's interval on each side: where all
  pictures agree, all resamples do.
* Sem-D (fixed): the mean over all pairs of an emotion, in closed form; percentiles of resamples of pictures.
* LPIPS, and Sem-D as published: means over drawn pairs; the error takes into account that pairs share
  pictures (`distances.dyadic_error`).
* FID, recall, coverage and narratives count what is distinct, so a resample, which repeats pictures, is worse
  than the sample: percentiles would lie beside the figure. The interval is the figure and t times the
  standard deviation of a few dozen resamples. These figures also depend on the number of pictures (FID falls
  with it, coverage grows): compare equal counts only. KID does not, and gets its interval alike. Of more than
  10,000 real pictures, FID sees all, and the others 10,000.

Drawing an emotion's n pictures anew shows (n - 1) / n of the variance that new pictures would have; all that
rests on resamples is widened for it. No interval leaves what its figure can be. Where pictures show no spread
at all (one pair), low and high are no numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from ..errors import DataError
from .distances import Neighbourhoods, kernel_distance, neighbourhoods
from .figures_pairs import over_all_pairs, pair_figures
from .instruments import Features
from .intervals import (
    LEVEL,
    RESAMPLES,
    Interval,
    at_least_wilson,
    bootstrap_mean,
    bounded,
    spread_out,
    stratified_resamples,
    unshrink,
)
from .metrics import coverage, frechet_to, tells_its_story
from .observations import Observations

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]

_FEW, _FEWEST, _WIDE = 48, 20, 512
_MOST = 10_000
_SHARES = ("emo_a", "polarity_a", "precision", "story")
_BOUNDS = {"density": (0.0, np.inf), "sem_c": (0.0, 1.0)}
_PROBE_NAMES = {"clip": "", "second": "_second"}


def figures(
    observed: Observations,
    real: Observations | None,
    protocol: str | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Interval]:
    """All metrics that can be had, by name.

    fid, kid, precision, recall, density, coverage: against the real pictures; coverage_within: the mean over
    emotions of the share of an emotion's real pictures that its own generated ones cover. lpips, sem_c,
    sem_d; emo_a, polarity_a: by the CLIP probe, with the ending _second by the other. story: the share of
    pictures that tell a narrative of their emotion; narratives: how many an emotion reaches, on average.

    Arguments:
        real: None where nothing is to be compared with, as for the real pictures themselves.
        protocol: None, or what both are of.

    Raises:
        DataError: generated and real pictures were seen under different protocols or by different
            instruments.
    """
    if real is not None:
        _require_alike(observed, real, protocol)
    means = _per_picture(observed)
    found: dict[str, Interval] = {}
    if real is not None and min(len(observed), len(real)) > 1:
        among = neighbourhoods(observed.inception, _some(real.inception))
        means |= {"precision": among.precise, "density": among.density}
        found |= _distances(observed, real, among, seed)
    found |= _means(means, observed.emotions, seed, resamples)
    found |= pair_figures(observed, seed, resamples)
    if observed.stories is not None:
        found["narratives"] = _narratives(observed, seed)
    return found


def figures_by_emotion(
    observed: Observations, real: Observations | None, seed: int = 0
) -> dict[str, dict[str, Interval]]:
    """For each emotion its own accuracy, Sem-C, Sem-D, precision, recall, density and coverage.

    Sem-D is over all pairs of the emotion, under either protocol.
    """
    found = {}
    for name in observed.names:
        rows = observed.rows(name)
        groups = (name,) * len(rows)
        means = {metric: values[rows] for metric, values in _per_picture(observed).items()}
        of_emotion: dict[str, Interval] = {}
        if real is not None and name in real.names:
            theirs = real.inception[real.rows(name)]
            if min(len(rows), len(theirs)) > 1:
                among = neighbourhoods(observed.inception[rows], theirs)
                means |= {"precision": among.precise, "density": among.density}
                of_emotion |= _shares(among, groups, seed)
        if len(rows) > 1 and observed.clip.shape[1]:
            of_emotion["sem_d"] = over_all_pairs(observed, (name,), seed, RESAMPLES)
        found[name] = _means(means, groups, seed, RESAMPLES) | of_emotion
    return found


def text_alignment(
    images: ArrayLike, texts: ArrayLike, groups: Sequence[str] | None = None, seed: int = 0
) -> Interval:
    """CLIP text alignment: the mean cosine of pictures' and their prompts' embeddings.

    Arguments:
        images, texts: [n, V] each, unnormalised; row i of both belongs to picture i.
        groups: [n], the strata of the bootstrap; None: one.
    """
    cosines = text_cosines(images, texts)
    strata = groups or ("",) * len(cosines)
    drawn = bootstrap_mean(spread_out(cosines, strata), strata, seed=seed)
    return bounded(float(cosines.mean()), drawn.low, drawn.high, -1.0, 1.0)


def text_cosines(images: ArrayLike, texts: ArrayLike) -> FloatArray:
    """[n], the cosine of each picture's embedding with its text's; both [n, V]."""
    unit = [np.asarray(rows, dtype=np.float64) for rows in (images, texts)]
    left, right = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in unit)
    cosines: FloatArray = (left * right).sum(axis=1)
    return cosines


def _require_alike(observed: Observations, real: Observations, protocol: str | None) -> None:
    protocols = {observed.protocol, real.protocol, protocol or observed.protocol}
    if len(protocols) > 1:
        raise DataError(
            f"pictures seen under the protocols {' and '.join(sorted(protocols))} cannot be compared: "
            "measure both alike."
        )
    if observed.inception.shape[1] != real.inception.shape[1]:
        raise DataError("the pictures were seen by different instruments: measure both alike.")


def _per_picture(observed: Observations) -> dict[str, FloatArray]:
    """The figures that are means over pictures, [n] each."""
    found = {f"emo_a{_ending(probe)}": right for probe, right in observed.right().items()}
    found |= {f"polarity_a{_ending(probe)}": right for probe, right in observed.right_polarity().items()}
    if (tops := observed.sem_c()) is not None:
        found["sem_c"] = tops
    if observed.stories is not None:
        found["story"] = tells_its_story(observed.stories, observed.emotions, observed.narratives)
    return found


def _ending(probe: str) -> str:
    return _PROBE_NAMES.get(probe, f"_{probe}")


def _means(
    values: Mapping[str, FloatArray], groups: Sequence[str], seed: int, resamples: int
) -> dict[str, Interval]:
    """`bootstrap_mean` of several figures on the same draws; of shares `share_interval`."""
    if not values:
        return {}
    table = spread_out(np.stack(list(values.values())), groups)
    draws = np.stack([table[:, rows].mean(axis=1) for rows in stratified_resamples(groups, resamples, seed)])
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    found = {}
    for i, (name, array) in enumerate(values.items()):
        interval = Interval(float(array.mean()), float(low[i]), float(high[i]))
        if name.startswith(_SHARES):
            found[name] = at_least_wilson(interval, float(array.sum()), len(array))
        else:
            found[name] = bounded(interval.value, interval.low, interval.high, *_BOUNDS[name])
    return found


def _distances(
    observed: Observations, real: Observations, among: Neighbourhoods, seed: int
) -> dict[str, Interval]:
    x, y = observed.inception, real.inception
    number = _FEWEST if x.shape[1] > _WIDE else _FEW
    draws = list(stratified_resamples(observed.emotions, number, seed))
    counts = np.stack([np.bincount(rows, minlength=len(x)) for rows in draws])
    kernel = kernel_distance(x, _some(y), np.concatenate([np.ones((1, len(x))), counts]))
    to_real = frechet_to(y)
    found = {
        "fid": _spread(to_real(x), [to_real(x[rows]) for rows in draws], observed.emotions, 0.0),
        "kid": _spread(float(kernel[0]), kernel[1:], observed.emotions),
    }
    found |= _shares(among, observed.emotions, seed)
    within = [n for n in observed.names if min(len(observed.rows(n)), len(real.rows(n))) > 1]
    if len(within) == len(observed.names):
        own = [
            _shares(_of_emotion(observed, real, name), (name,) * len(observed.rows(name)), seed)
            for name in within
        ]
        found["coverage_within"] = _mean_of([shares["coverage"] for shares in own])
    return found


def _some(features: Features) -> Features:
    """At most `_MOST` of them: each is compared with each, and more hardly change what comes out."""
    if len(features) <= _MOST:
        return features
    return features[np.sort(np.random.default_rng(0).permutation(len(features))[:_MOST])]


def _of_emotion(observed: Observations, real: Observations, name: str) -> Neighbourhoods:
    return neighbourhoods(observed.inception[observed.rows(name)], real.inception[real.rows(name)])


def _shares(among: Neighbourhoods, groups: Sequence[str], seed: int) -> dict[str, Interval]:
    """Recall and coverage, with the spread of resamples in which a third of the pictures is missing."""
    found = {}
    for name, reached in (("recall", among.recalls), ("coverage", among.covers)):
        draws = []
        for rows in stratified_resamples(groups, _FEW, seed):
            drawn = np.zeros(len(reached), dtype=bool)
            drawn[rows] = True
            draws.append(among.share(reached, drawn))
        found[name] = _spread(among.share(reached), draws, groups, 0.0, 1.0)
    return found


def _mean_of(intervals: Sequence[Interval]) -> Interval:
    """The mean of independent shares."""
    value = float(np.mean([interval.value for interval in intervals]))
    half = float(np.sqrt(np.sum([(i.high - i.low) ** 2 for i in intervals]))) / 2 / len(intervals)
    return bounded(value, value - half, value + half, 0.0, 1.0)


def _narratives(observed: Observations, seed: int) -> Interval:
    """How many narratives an emotion reaches, on average."""
    stories = observed.stories or ()

    def reached(rows: IndexArray) -> float:
        told = [stories[row] for row in rows]
        return coverage(told, [observed.emotions[row] for row in rows], observed.narratives).mean

    draws = [reached(rows) for rows in stratified_resamples(observed.emotions, _FEW, seed)]
    most = float(np.mean([len(set(told)) for told in observed.narratives.values()]))
    return _spread(reached(np.arange(len(stories))), draws, observed.emotions, 0.0, most)


def _spread(
    value: float,
    draws: ArrayLike,
    groups: Sequence[str],
    least: float = -np.inf,
    most: float = np.inf,
) -> Interval:
    """The figure, and t times the standard deviation of its resamples on both sides, as far as it can be.

    groups: [n], of the pictures that were resampled, for the widening.
    """
    array = np.asarray(draws, dtype=np.float64)
    array = array[np.isfinite(array)]  # a resample of one picture alone has no distance within
    if len(array) < 2:
        return Interval(value, float("nan"), float("nan"))
    each = round(len(groups) / len(set(groups)))
    half = float(student.ppf((1 + LEVEL) / 2, len(array) - 1) * array.std(ddof=1)) * unshrink(each)
    return bounded(value, value - half, value + half, least, most)
