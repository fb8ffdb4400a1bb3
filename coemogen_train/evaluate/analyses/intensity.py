"""Is more of it more? Intensity against the probe's probability of the emotion.

Three dials: the pseudo-words' intensity t, with HiLoRA as trained; HiLoRA's strength, with the pseudo-words
as trained; and both turned together. Every picture is drawn at every setting from the same noise and v.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from ...base.sampling import SamplingSettings
from ...emotions import Taxonomy
from ..intervals import Interval
from .drawing import FloatArray, Observer, Order, Readings, meant_emotions, right_emotion
from .resamples import Resamples, percentiles

Dial = Literal["words", "hilora", "both"]
DIALS: tuple[Dial, ...] = get_args(Dial)
INTENSITIES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)


@dataclass(frozen=True)
class DialPoint:
    """At one setting: the probe's mean probability of what was meant, and how often it sees it."""

    intensity: float
    probability: Interval
    hit: Interval


@dataclass(frozen=True)
class DialLine:
    """One dial. correlation: Spearman's, of setting and probability over all pictures and settings;
    own: its mean over pictures, each with its own settings alone; of: by emotion, over its pictures. rise: of
    the mean probability from the first setting to the last.
    """

    dial: Dial
    points: tuple[DialPoint, ...]
    correlation: Interval
    own: Interval
    of: Mapping[str, Interval]
    rise: Interval


@dataclass(frozen=True)
class Intensity:
    """The answer by one probe; pictures: starts, each drawn at every setting of every dial."""

    probe: str
    backbone: str
    pictures: int
    lines: tuple[DialLine, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


@dataclass(frozen=True)
class IntensityRuns:
    """What was seen, by dial and setting."""

    meant: tuple[str, ...]
    intensities: tuple[float, ...]
    readings: Mapping[tuple[Dial, float], Readings]


def intensity_runs(
    observer: Observer,
    settings: SamplingSettings,
    each: int,
    seed: int,
    intensities: Sequence[float] = INTENSITIES,
    prompt: str = "{emotion}",
) -> IntensityRuns:
    """Draw `each` pictures of every emotion at every setting of every dial."""
    meant = meant_emotions(observer.taxonomy, each)
    order = replace(Order.of(meant, seed, settings), prompt=prompt)
    readings: dict[tuple[Dial, float], Readings] = {}
    for t in map(float, intensities):
        readings["words", t] = observer.observe(replace(order, intensity=t))
        readings["hilora", t] = observer.observe(replace(order, strength=t))
        readings["both", t] = observer.observe(replace(order, intensity=t, strength=t))
    return IntensityRuns(meant, tuple(map(float, intensities)), readings)


def intensity(runs: IntensityRuns, taxonomy: Taxonomy, probe: str, backbone: str, seed: int) -> Intensity:
    """The figures of the runs by one probe; intervals resample starts, each with all its settings."""
    columns = [taxonomy.index(name) for name in runs.meant]
    resamples = Resamples(runs.meant, seed)
    lines = []
    for dial in DIALS:
        shown = [runs.readings[dial, t] for t in runs.intensities]
        probabilities = np.stack(
            [r.probabilities[probe][range(len(columns)), columns] for r in shown], axis=1
        )
        points = [
            DialPoint(
                t,
                resamples.mean(probabilities[:, place]),
                resamples.share(right_emotion(readings.seen[probe], runs.meant, taxonomy)),
            )
            for place, (t, readings) in enumerate(zip(runs.intensities, shown, strict=True))
        ]
        own = np.array([spearman(runs.intensities, row) for row in probabilities])
        of = {}
        for name in taxonomy.names:
            rows = [i for i, meant in enumerate(runs.meant) if meant == name]
            of[name] = pooled_correlation(runs.intensities, probabilities[rows], [name] * len(rows), seed)
        pooled = pooled_correlation(runs.intensities, probabilities, runs.meant, seed)
        rise = resamples.mean(probabilities[:, -1] - probabilities[:, 0])
        lines.append(DialLine(dial, tuple(points), pooled, resamples.mean(own), of, rise))
    return Intensity(probe, backbone, len(runs.meant), tuple(lines))


def spearman(settings: Sequence[float], values: FloatArray) -> float:
    """Spearman's rank correlation; 0 where the values do not change at all: nothing goes with anything."""
    from scipy.stats import spearmanr

    array = np.asarray(values, dtype=np.float64)
    return 0.0 if np.ptp(array) == 0 else float(spearmanr(settings, array).statistic)


def pooled_correlation(
    settings: Sequence[float], values: FloatArray, groups: Sequence[str], seed: int
) -> Interval:
    """Spearman's correlation over all of values [n, T] against their settings [T], resampling rows."""
    from scipy.stats import rankdata

    indices = Resamples(groups, seed, resamples=1000).indices
    choices = np.concatenate([np.arange(len(values))[None], indices])
    chosen = values[choices].reshape(len(choices), -1)
    ranks = rankdata(chosen, axis=1)
    against = rankdata(np.broadcast_to(np.asarray(settings, dtype=np.float64), values.shape).ravel())
    ranks -= ranks.mean(axis=1, keepdims=True)
    against -= against.mean()
    spread = np.sqrt((ranks**2).sum(axis=1) * (against**2).sum())
    draws = np.divide(ranks @ against, spread, out=np.zeros(len(ranks)), where=spread > 0)
    return percentiles(draws)
