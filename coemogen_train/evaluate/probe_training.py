"""`probe`: an emotion probe on CLIP (the paper's) or on another backbone, trained on a set's train split and
scored on what was held out.

The label of a picture does not depend on its caption, so what the filter dropped is used like the rest. What
a probe labelled is not: it would teach the next one nothing but its own mistakes.

The fit is scikit-learn's and has all features in memory: EmoSet's 94,000 training pictures at V = 768 are
290 MB as read, twice 580 MB while they are made ready in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..data.cache import CacheOptions, build_cache
from ..data.embeddings import EmbeddingCache
from ..data.prepare import Progress
from ..data.samples import SPLITS, TrainingSet
from ..errors import DataError
from .backbones import PictureEncoder
from .intervals import Interval, bootstrap_mean
from .metrics import correct
from .probes import EmotionProbe, ProbeScore, fit_probe

HELD_OUT = ("val", "test")
FLOORS = (0.5, 0.6, 0.75, 0.9)
# Below so many pictures of an emotion, what is said of it is mostly chance.
FEW_TRAINED, FEW_SCORED = 20, 10


@dataclass(frozen=True)
class AtFloor:
    """What labelling with this floor would do to the scored pictures. share: of them that are surer; right:
    the accuracy among these, None where there is none."""

    floor: float
    share: float
    right: float | None


@dataclass(frozen=True, eq=False)
class Scored:
    """A probe's figures on real pictures that it has not seen.

    accuracy: with its interval over pictures, drawn within each emotion. mean_recall: over the emotions that
    have pictures, all alike. commonest: the accuracy of always naming the commonest emotion. seen, true: of
    every picture, in the order of the set, by the probe's names.
    """

    accuracy: Interval
    mean_recall: float
    commonest: float
    score: ProbeScore
    floors: tuple[AtFloor, ...]
    seen: tuple[str, ...]
    true: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ProbeReport:
    """A probe and how it did. trained: pictures per emotion, empty where another trained it. notes:
    sentences that a reader of the figures must know."""

    probe: EmotionProbe
    scored: Scored | None
    trained: dict[str, int]
    notes: tuple[str, ...]


def train_probe(
    of: TrainingSet,
    clip: PictureEncoder,
    *,
    seed: int = 0,
    options: CacheOptions = CacheOptions(),  # noqa: B008 - frozen
    progress: Progress | None = None,
) -> ProbeReport:
    """Train a probe on the train split of a set and score it on val and test together.

    The classes are the emotions of the taxonomy that have a training picture, in its order. Features come
    from the set's cache, which is built where it lacks some. clip: its image half, or another backbone.
    seed: of the folds by which the penalty is chosen, and of the interval.
    Raises: DataError for a set with training pictures of fewer than two emotions, and as `build_cache`.
    """
    labels, by_people = _labels(of, ("train",))
    labels = [label for label, told in zip(labels, by_people, strict=True) if told]
    counts = {name: labels.count(name) for name in of.taxonomy.names}
    classes = [name for name, count in counts.items() if count]
    if len(classes) < 2:
        found = f"pictures of {classes[0]} only" if classes else "no pictures"
        raise DataError(
            f"in the train split of {of.root} people labelled {found}: a probe needs two emotions at least."
        )
    cache = build_cache(of, clip=clip, options=options, progress=progress)
    features = _features(cache, of, ("train",), by_people)
    probe = fit_probe(features, labels, classes, backbone=clip.name, seed=seed)
    probe = replace(probe, encoder=clip.fingerprint, licence=of.info.licence)
    notes = _training_notes(counts, int((~by_people).sum()))
    scored, scoring_notes = _scored(probe, of, cache, HELD_OUT, seed)
    notes += scoring_notes
    if scored is None:
        notes.append(
            f"{of.root} has no held-out pictures (val, test) of these emotions: nobody knows how good this "
            "probe is."
        )
    else:
        probe = replace(probe, held_out=scored.score)
    return ProbeReport(probe, scored, counts, tuple(notes))


def check_probe(
    probe: EmotionProbe,
    of: TrainingSet,
    clip: PictureEncoder,
    *,
    all_splits: bool = False,
    seed: int = 0,
    options: CacheOptions = CacheOptions(),  # noqa: B008 - frozen
    progress: Progress | None = None,
) -> ProbeReport:
    """Score a probe on the held-out pictures of a set, its emotions found by name.

    all_splits: the train split too, for a set that the probe has never seen. A head that knows no encoder
    comes back as a probe of this one.
    Raises: DataError when the features are of another encoder, or there is no picture to score.
    """
    probe.require_encoder(clip.fingerprint, clip.name)
    if probe.width != clip.image_width:
        raise DataError(
            f"the emotion probe reads features of width {probe.width} ({probe.backbone}), {clip.name} gives "
            f"{clip.image_width}: name the CLIP that it was trained on with --vision."
        )
    splits = SPLITS if all_splits else HELD_OUT
    labels, by_people = _labels(of, splits)
    if not any(probe.knows(label) and told for label, told in zip(labels, by_people, strict=True)):
        raise DataError(
            f"{of.root} has no {'' if all_splits else 'held-out '}picture of an emotion that the probe knows "
            f"({', '.join(probe.classes)})"
            + (": take another set." if all_splits else ": --all-splits takes the train split too.")
        )
    cache = build_cache(of, clip=clip, options=options, progress=progress)
    scored, notes = _scored(probe, of, cache, splits, seed)
    if all_splits:
        notes.append("The train split was scored too: too good, if the probe was trained on these pictures.")
    if not probe.encoder:
        notes.append(
            "The head does not tell which CLIP it was trained on: only the width of its features was checked."
        )
        probe = replace(probe, encoder=clip.fingerprint, held_out=scored.score if scored else None)
    return ProbeReport(probe, scored, {}, tuple(notes))


def _scored(
    probe: EmotionProbe, of: TrainingSet, cache: EmbeddingCache, splits: Sequence[str], seed: int
) -> tuple[Scored | None, list[str]]:
    """The probe's figures on these splits, and what is to be said of them; None where it knows no picture."""
    labels, by_people = _labels(of, splits)
    known = np.array([probe.knows(label) for label in labels], dtype=bool)
    notes = []
    foreign = [label for label, knows in zip(labels, known, strict=True) if not knows]
    if foreign:
        notes.append(
            f"{len(foreign)} pictures of {', '.join(sorted(set(foreign)))} are not scored: the probe knows "
            "no such emotion."
        )
    if not by_people.all():
        notes.append(f"{int((~by_people).sum())} pictures that a probe labelled are not scored.")
    chosen = known & by_people
    if not chosen.any():
        return None, notes
    features = _features(cache, of, splits, chosen)
    wanted = [labels[row] for row in np.flatnonzero(chosen)]
    true = [probe.classes[column] for column in probe.columns(wanted)]
    shares = probe.probabilities(features)
    best = shares.argmax(axis=1)
    seen = [probe.classes[column] for column in best]
    right = correct(seen, true)
    score = probe.score(features, true)
    pictures = score.confusion.sum(axis=1)
    notes += _scoring_notes(probe.classes, pictures.tolist())
    recall = score.confusion.diagonal()[pictures > 0] / pictures[pictures > 0]
    accuracy = bootstrap_mean(right, true, seed=seed)
    if accuracy.low == accuracy.high:
        notes.append(
            f"All are {'right' if accuracy.value else 'wrong'}, so the interval has no width: up to "
            f"{min(3 / len(true), 1):.1%} of others may be otherwise."  # the rule of three
        )
    floors = tuple(_at_floor(floor, shares.max(axis=1), right) for floor in FLOORS)
    commonest = float(pictures.max() / pictures.sum())
    mean_recall = float(recall.mean())
    return Scored(accuracy, mean_recall, commonest, score, floors, tuple(seen), tuple(true)), notes


def _at_floor(floor: float, confidence: NDArray[np.float64], right: NDArray[np.float64]) -> AtFloor:
    sure = confidence >= floor
    return AtFloor(floor, float(sure.mean()), float(right[sure].mean()) if sure.any() else None)


def _training_notes(counts: dict[str, int], by_probe: int) -> list[str]:
    notes = []
    if by_probe:
        notes.append(f"{by_probe} training pictures were labelled by a probe and are left out.")
    if absent := [name for name, count in counts.items() if not count]:
        notes.append(f"No training picture shows {', '.join(absent)}: the probe does not know it.")
    if few := [f"{name} ({count})" for name, count in counts.items() if 0 < count < FEW_TRAINED]:
        notes.append(f"Few training pictures of {', '.join(few)}: expect little of the probe there.")
    return notes


def _scoring_notes(classes: Sequence[str], pictures: Sequence[int]) -> list[str]:
    notes = []
    if absent := [name for name, count in zip(classes, pictures, strict=True) if not count]:
        notes.append(f"No scored picture shows {', '.join(absent)}: nothing is known of it.")
    few = [f"{n} ({count})" for n, count in zip(classes, pictures, strict=True) if 0 < count < FEW_SCORED]
    if few:
        notes.append(f"Few scored pictures of {', '.join(few)}: the recall there is mostly chance.")
    return notes


def _features(
    cache: EmbeddingCache, of: TrainingSet, splits: Sequence[str], chosen: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """[n, V], of the chosen pictures of these splits, one split after the other."""
    parts = [of.samples(split) for split in splits]
    masks = np.split(chosen, np.cumsum([len(part) for part in parts])[:-1])
    found = [cache.embeds_of(p.masked(m)).numpy() for p, m in zip(parts, masks, strict=True) if m.any()]
    return found[0] if len(found) == 1 else np.concatenate(found)


def _labels(of: TrainingSet, splits: Sequence[str]) -> tuple[list[str], NDArray[np.bool_]]:
    """The emotions [n] of all pictures of these splits in that order, and whether people said so."""
    labels: list[str] = []
    by_people = []
    for split in splits:
        columns = of.samples(split).columns("emotion", "attributes")
        labels += columns["emotion"].to_pylist()
        # A string inside the JSON cannot look so: its quotes would be escaped.
        told = pc.match_substring(columns["attributes"], '"emotion_from":"probe"')
        by_people.append(~np.asarray(told.to_numpy(zero_copy_only=False), dtype=bool))
    return labels, np.concatenate(by_people)
