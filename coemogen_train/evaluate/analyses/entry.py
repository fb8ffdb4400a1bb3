"""When does an emotion enter? Condition and HiLoRA on within a stretch of the denoising alone, or off in it.

Within: nothing of the adapter acts but one carrier, in one stretch; what the stretch suffices for shows.
Without: all of it acts but this carrier in this stretch; what the stretch is needed for shows.
All runs start from the same noise and the same v, so that differences are of the same pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from ...base.sampling import ALWAYS, SamplingSettings, Window
from ...emotions import Taxonomy
from ..intervals import Interval
from .drawing import (
    FloatArray,
    Observer,
    Order,
    Readings,
    meant_emotions,
    right_emotion,
    right_polarity,
)
from .resamples import LEVEL, Resamples, percentiles

Carrier = Literal["condition", "hilora", "both"]
Way = Literal["within", "without"]
Figure = Literal["emotion", "polarity", "brightness", "luma"]
CARRIERS: tuple[Carrier, ...] = get_args(Carrier)
FIGURES: tuple[Figure, ...] = get_args(Figure)
_SHARES, _CENTRED = FIGURES[:2], FIGURES[:3]
NEVER: Window = (0.0, 0.0)
# A carrier's effect below this share of the pictures (or of the full brightness) has no place in time.
_LEAST_EFFECT = 1e-9


@dataclass(frozen=True)
class Figures:
    """Shares of pictures in which the probe sees the emotion, and its polarity; how far the mean brightness
    of a picture (0 to 1) is from that of the full run's picture, on average; and the mean brightness itself.
    """

    emotion: Interval
    polarity: Interval
    brightness: Interval
    luma: Interval


@dataclass(frozen=True)
class Stretch:
    """What one carrier does within a stretch from `start` to `end`, and what is left without it there."""

    carrier: Carrier
    start: float
    end: float
    within: Figures
    without: Figures


@dataclass(frozen=True)
class Centre:
    """Where in the denoising a carrier has its effect, on average over the stretches, 0 to 1.

    Stretches weigh by what they alone gain ("within") or by what is lost without them ("without").
    later: of the emotion's centre beyond the polarity's; above zero, the polarity enters first. None where
    there is no effect. Chance effects pull a centre towards the middle, so that differences look smaller.
    """

    carrier: Carrier
    way: Way
    emotion: Interval | None
    polarity: Interval | None
    brightness: Interval | None
    later: Interval | None


@dataclass(frozen=True)
class Peak:
    """The stretch in which both carriers together do most for the emotion, or are missed most.

    beyond: of its emotion accuracy beyond the median stretch's, of the same pictures. The best of several is
    best by chance, too: its level is raised by their number (Bonferroni).
    """

    way: Way
    start: float
    end: float
    beyond: Interval


@dataclass(frozen=True)
class Entry:
    """The answer by one probe. full: everything on all the time; nothing: the bare base, unprompted; gained:
    full less nothing, of the same starts, in emotion and polarity.
    """

    probe: str
    backbone: str
    pictures: int
    steps: int
    chance: Mapping[str, float]
    full: Figures
    nothing: Figures
    gained: Mapping[str, Interval]
    stretches: tuple[Stretch, ...]
    centres: tuple[Centre, ...]
    peaks: tuple[Peak, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


@dataclass(frozen=True)
class Runs:
    """What was seen: in the full run, with nothing on, and by carrier, way and stretch."""

    meant: tuple[str, ...]
    full: Readings
    nothing: Readings
    switched: Mapping[tuple[Carrier, Way, int], Readings]
    stretches: int


def entry_runs(
    observer: Observer, settings: SamplingSettings, each: int, seed: int, stretches: int = 8
) -> Runs:
    """Draw `each` pictures of every emotion for every switch; stretches: equal ones, side by side."""
    meant = meant_emotions(observer.taxonomy, each)

    def observe(condition: Window, hilora: Window) -> Readings:
        chosen = replace(settings, condition_window=condition, hilora_window=hilora)
        return observer.observe(Order.of(meant, seed, chosen))

    switched = {}
    for carrier in CARRIERS:
        for number in range(stretches):
            window = (number / stretches, (number + 1) / stretches)
            for way in get_args(Way):
                on, other = (window, NEVER) if way == "within" else (window[::-1], ALWAYS)
                condition = other if carrier == "hilora" else on
                hilora = other if carrier == "condition" else on
                switched[carrier, way, number] = observe(condition, hilora)
    return Runs(meant, observe(ALWAYS, ALWAYS), observe(NEVER, NEVER), switched, stretches)


def entry(runs: Runs, taxonomy: Taxonomy, probe: str, backbone: str, steps: int, seed: int) -> Entry:
    """The figures of the runs by one probe, with intervals over the pictures."""
    resamples = Resamples(runs.meant, seed)

    def values(readings: Readings) -> dict[Figure, FloatArray]:
        seen = readings.seen[probe]
        return {
            "emotion": right_emotion(seen, runs.meant, taxonomy),
            "polarity": right_polarity(seen, runs.meant, taxonomy),
            "brightness": np.abs(readings.luma - runs.full.luma),
            "luma": readings.luma,
        }

    full, nothing = values(runs.full), values(runs.nothing)
    switched = {key: values(readings) for key, readings in runs.switched.items()}
    stretches = [
        Stretch(
            carrier,
            number / runs.stretches,
            (number + 1) / runs.stretches,
            _figures(switched[carrier, "within", number], resamples),
            _figures(switched[carrier, "without", number], resamples),
        )
        for carrier in CARRIERS
        for number in range(runs.stretches)
    ]
    centres = []
    for carrier in CARRIERS:
        for way in get_args(Way):
            reference = nothing if way == "within" else full
            lines = [switched[carrier, way, number] for number in range(runs.stretches)]
            centres.append(_centre(carrier, way, reference, lines, resamples))
    peaks = [
        _peak(way, [switched["both", way, number]["emotion"] for number in range(runs.stretches)], resamples)
        for way in get_args(Way)
    ]
    shares = np.bincount(taxonomy.polarity_of) / taxonomy.num_emotions
    chance = {"emotion": 1 / taxonomy.num_emotions, "polarity": float((shares**2).sum())}
    return Entry(
        probe,
        backbone,
        len(runs.meant),
        steps,
        chance,
        _figures(full, resamples),
        _figures(nothing, resamples),
        {figure: resamples.difference(full[figure], nothing[figure]) for figure in _SHARES},
        tuple(stretches),
        tuple(centres),
        tuple(peaks),
    )


def centre_of(effects: FloatArray) -> FloatArray:
    """[R] mean places, 0 to 1, of effects [K, R] in K equal stretches; negative ones weigh nothing.

    NaN where no stretch has an effect.
    """
    weights = np.clip(effects, 0.0, None)
    places = (np.arange(len(weights)) + 0.5) / len(weights)
    total = weights.sum(axis=0)
    safe = np.where(total > _LEAST_EFFECT, total, np.nan)
    return (places[:, None] * weights).sum(axis=0) / safe


def _centre(
    carrier: Carrier,
    way: Way,
    reference: Mapping[Figure, FloatArray],
    lines: Sequence[Mapping[Figure, FloatArray]],
    resamples: Resamples,
) -> Centre:
    """An accuracy's effect is its rise within, its fall without; a distance's is the other way round."""
    places = {}
    for figure in _CENTRED:
        rises = np.stack([resamples.means(line[figure] - reference[figure]) for line in lines])
        upwards = (way == "within") == (figure != "brightness")
        places[figure] = centre_of(rises if upwards else -rises)
    return Centre(
        carrier,
        way,
        _where_known(places["emotion"]),
        _where_known(places["polarity"]),
        _where_known(places["brightness"]),
        _where_known(places["emotion"] - places["polarity"]),
    )


def _where_known(draws: FloatArray) -> Interval | None:
    """The interval over the resamples that have the effect; None where the pictures have none."""
    known = draws[np.isfinite(draws)]
    return percentiles(known) if np.isfinite(draws[0]) and len(known) > 1 else None


def _peak(way: Way, lines: Sequence[FloatArray], resamples: Resamples) -> Peak:
    """The most extreme of the stretches [K][n] beside the middle one."""
    ranked = np.argsort([line.mean() for line in lines], kind="stable")
    chosen = ranked[-1 if way == "within" else 0]
    middle = ranked[(len(lines) - (way == "within")) // 2]  # never the chosen one
    level = 1 - (1 - LEVEL) / len(lines)
    beyond = resamples.difference(lines[chosen], lines[middle], level)
    return Peak(way, float(chosen / len(lines)), float((chosen + 1) / len(lines)), beyond)


def _figures(values: Mapping[Figure, FloatArray], resamples: Resamples) -> Figures:
    shares = (resamples.share(values[figure]) for figure in _SHARES)
    return Figures(*shares, *(resamples.mean(values[figure]) for figure in FIGURES[2:]))
