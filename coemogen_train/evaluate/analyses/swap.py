"""Who carries the emotion: v of one emotion with the label of another, and v alone.

Three things of the adapter carry an emotion into a picture: v, drawn from the Gaussians; the label, told to
the mapper and so in the pseudo-words; and HiLoRA's routing. Where they disagree, the probe shows which wins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from ...base.sampling import SamplingSettings
from ...emotions import Taxonomy
from ..instruments import PictureProbe
from ..intervals import Interval
from .drawing import (
    FloatArray,
    IntArray,
    Observer,
    Order,
    Readings,
    meant_emotions,
    right_emotion,
    right_polarity,
)
from .resamples import Resamples

Odd = Literal["v", "words", "hilora"]
ODDS: tuple[Odd, ...] = get_args(Odd)
Pairing = Literal["own", "within", "across"]
"""Source and label are the same emotion, two of one polarity, or two of different polarities."""


@dataclass(frozen=True)
class Shares:
    """Shares of the pictures: the probe sees the label, the source of v, neither; their polarities.

    lead: of the label over the source, of the same pictures.
    """

    pairing: Pairing
    pictures: int
    label: Interval
    source: Interval
    neither: Interval
    label_polarity: Interval
    source_polarity: Interval
    lead: Interval


@dataclass(frozen=True)
class OddOneOut:
    """One carrier has another emotion than the two others: shares of the pictures in which the probe sees its
    emotion, and that of the others.
    """

    odd: Odd
    pictures: int
    own: Interval
    others: Interval
    own_polarity: Interval


@dataclass(frozen=True)
class VAlone:
    """The probe on drawn v, without a picture: accuracy, and that of each emotion; real: the probe's own on
    held-out real pictures, where it is known.
    """

    draws: int
    accuracy: Interval
    of: Mapping[str, float]
    real: float | None


@dataclass(frozen=True)
class Swap:
    """The answer by one probe. seen_label, seen_source: [E][E], source by label, shares of the pictures.

    odd_ones: over pairs of different polarities, where the carriers disagree in everything.
    v_alone: None where the probe does not read the adapter's v.
    """

    probe: str
    backbone: str
    emotions: tuple[str, ...]
    each: int
    shares: tuple[Shares, ...]
    odd_ones: tuple[OddOneOut, ...]
    seen_label: tuple[tuple[float, ...], ...]
    seen_source: tuple[tuple[float, ...], ...]
    v_alone: VAlone | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


@dataclass(frozen=True)
class SwapRuns:
    """What was seen of every pair (source, label), with each carrier as the one that has the source's.

    The first carrier is v: its pictures are the table's. The others' hold pairs across polarities alone.
    """

    each: int
    pairs: Mapping[Odd, tuple[tuple[str, str], ...]]
    readings: Mapping[Odd, Readings]


def swap_runs(observer: Observer, settings: SamplingSettings, each: int, seed: int) -> SwapRuns:
    """Draw `each` pictures of every pair; v, the words or the routing is the one that has the source."""
    taxonomy = observer.taxonomy
    every = [(source, label) for source in taxonomy.names for label in taxonomy.names]
    across = [pair for pair in every if pairing(*pair, taxonomy) == "across"]
    pairs = {
        odd: tuple(pair for pair in (every if odd == "v" else across) for _ in range(each)) for odd in ODDS
    }
    readings = {}
    for odd, meant in pairs.items():
        if not meant:  # one polarity alone
            continue
        sources, labels = zip(*meant, strict=True)
        order = Order.of(labels, seed, settings)
        odd_order = {
            "v": replace(order, source=sources),
            "words": replace(order, words=sources),
            "hilora": replace(order, hilora=sources),
        }[odd]
        readings[odd] = observer.observe(odd_order)
    return SwapRuns(each, pairs, readings)


def swap(
    runs: SwapRuns,
    taxonomy: Taxonomy,
    probe: str,
    backbone: str,
    seed: int,
    v_alone: VAlone | None = None,
) -> Swap:
    """The tables by one probe, with intervals over the pictures within each pair's kind."""
    seen, pairs = runs.readings["v"].seen[probe], runs.pairs["v"]
    shares = []
    for kind in get_args(Pairing):
        rows = [i for i, pair in enumerate(pairs) if pairing(*pair, taxonomy) == kind]
        if rows:
            shares.append(_shares(kind, seen[rows], [pairs[i] for i in rows], taxonomy, seed))
    odd_ones = []
    for odd in ODDS:
        if odd not in runs.readings:
            continue
        rows = [i for i, pair in enumerate(runs.pairs[odd]) if pairing(*pair, taxonomy) == "across"]
        if rows:
            odd_seen = runs.readings[odd].seen[probe][rows]
            odd_ones.append(_odd_one(odd, odd_seen, [runs.pairs[odd][i] for i in rows], taxonomy, seed))
    sources, labels = zip(*pairs, strict=True)
    return Swap(
        probe,
        backbone,
        taxonomy.names,
        runs.each,
        tuple(shares),
        tuple(odd_ones),
        _matrix(right_emotion(seen, labels, taxonomy), pairs, taxonomy),
        _matrix(right_emotion(seen, sources, taxonomy), pairs, taxonomy),
        v_alone,
    )


def probe_on_v(observer: Observer, looking: PictureProbe, each: int, seed: int) -> VAlone | None:
    """The probe on `each` drawn v of every emotion; None where it reads features of another width."""
    meant = meant_emotions(observer.taxonomy, each)
    embeds = observer.painter.embeds(meant, seed).numpy()
    probe = looking.probe
    if embeds.shape[1] != probe.width:
        return None
    columns = np.array(probe.columns(observer.taxonomy.names))
    places = [observer.taxonomy.index(name) for name in meant]
    right = (probe.logits(embeds).argmax(axis=1) == columns[places]).astype(np.float64)
    of = {
        name: float(right[[i for i, m in enumerate(meant) if m == name]].mean())
        for name in observer.taxonomy.names
    }
    real = None if probe.held_out is None else probe.held_out.accuracy
    return VAlone(len(meant), Resamples(meant, seed).share(right), of, real)


def pairing(source: str, label: str, taxonomy: Taxonomy) -> Pairing:
    """How two emotions stand to each other."""
    if source == label:
        return "own"
    places = taxonomy.index(source), taxonomy.index(label)
    return "within" if len({taxonomy.polarity_of[place] for place in places}) == 1 else "across"


def _shares(
    kind: Pairing, seen: IntArray, pairs: Sequence[tuple[str, str]], taxonomy: Taxonomy, seed: int
) -> Shares:
    sources, labels = zip(*pairs, strict=True)
    label, source = right_emotion(seen, labels, taxonomy), right_emotion(seen, sources, taxonomy)
    resamples = Resamples([kind] * len(pairs), seed)  # strata of two would look surer than they are
    return Shares(
        kind,
        len(pairs),
        resamples.share(label),
        resamples.share(source),
        resamples.share((label == 0) & (source == 0)),
        resamples.share(right_polarity(seen, labels, taxonomy)),
        resamples.share(right_polarity(seen, sources, taxonomy)),
        resamples.difference(label, source),
    )


def _odd_one(
    odd: Odd, seen: IntArray, pairs: Sequence[tuple[str, str]], taxonomy: Taxonomy, seed: int
) -> OddOneOut:
    sources, labels = zip(*pairs, strict=True)
    resamples = Resamples([odd] * len(pairs), seed)
    return OddOneOut(
        odd,
        len(pairs),
        resamples.share(right_emotion(seen, sources, taxonomy)),
        resamples.share(right_emotion(seen, labels, taxonomy)),
        resamples.share(right_polarity(seen, sources, taxonomy)),
    )


def _matrix(
    right: FloatArray, pairs: Sequence[tuple[str, str]], taxonomy: Taxonomy
) -> tuple[tuple[float, ...], ...]:
    """[E][E] means of `right` by source and label."""
    total = np.zeros((taxonomy.num_emotions, taxonomy.num_emotions))
    count = np.zeros_like(total)
    for value, (source, label) in zip(right, pairs, strict=True):
        place = taxonomy.index(source), taxonomy.index(label)
        total[place] += value
        count[place] += 1
    return tuple(tuple(row) for row in (total / np.maximum(count, 1)).tolist())
