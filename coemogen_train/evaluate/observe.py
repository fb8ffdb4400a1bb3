"""What the instruments see of a set of pictures, as numbers per picture and per pair of pictures.

Looking is the slow part and is done once; `figures` turns what was seen into metrics, and its bootstrap
resamples these numbers. Pictures are loaded in small batches, so any number of them can be measured, and each
encoder sees each picture once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.images import ImageProblem, quiet_pillow
from ..emotions.spelling import plain
from ..errors import DataError
from ..files import canonical_json, sha256_file
from .encoders import ClipFeatures
from .instruments import EncodePictures, Instruments, PictureProbe
from .observations import Observations
from .pictures import LabelledPictures
from .protocol import ProtocolName, pairs_of, published_instruments

Progress = Callable[[str, int, "int | None"], None]
"""report(stage, done, total)."""

BATCH = 16
_VERSION = 1  # of what is kept: raised whenever the same pictures and instruments would give other numbers


def observe(
    pictures: LabelledPictures,
    instruments: Instruments,
    protocol: ProtocolName = "fixed",
    seed: int = 0,
    progress: Progress | None = None,
    pairs_each: int = 1,
    whole: bool = True,
) -> Observations:
    """Look at all pictures with all instruments.

    Arguments:
        protocol: "fixed", or "published" for the arithmetic of the published scripts; see `protocol`.
        seed: draws the pairs.
        pairs_each: pairs per picture under the fixed protocol.
        whole: False looks with the first encoder alone: for real pictures that others are compared with, and
            that get no figures of their own.

    Raises:
        DataError: an emotion that a probe does not know, or of which no picture can be decoded.
    """
    if not len(pictures):
        raise DataError("there are no pictures to measure: give a folder of them for each emotion.")
    if not whole:
        instruments = replace(instruments, classifiers={}, probes={}, stories=None)
    classes = {name: _classes(name, probe, pictures.names) for name, probe in instruments.probes.items()}
    shown = published_instruments(instruments) if protocol == "published" else instruments
    report = progress or (lambda _stage, _done, _total: None)
    with quiet_pillow():
        seen = _look(pictures, instruments, shown, whole, report)
        readable = pictures.chosen(seen.rows)
        _require_all(pictures, readable, seen.unreadable)
        pairs, turns = pairs_of(readable.emotions if whole else (), protocol, seed, pairs_each)
        perceptual = _distances(readable, pairs, shown, report)
    compared = seen.stacked("clip as shown").astype(np.float64)
    differences = compared[pairs[:, 0]] - compared[pairs[:, 1]]
    return Observations(
        protocol=protocol,
        emotions=readable.emotions,
        polarities=_groups(pictures.polarities, classes),
        inception=seen.stacked("inception"),
        clip=seen.stacked("clip"),
        pairs=pairs,
        turns=turns,
        lpips=perceptual,
        sem_d=np.square(differences).mean(axis=1) if len(pairs) else np.empty(0),
        tops={name: seen.stacked(f"top {name}") for name in instruments.classifiers},
        classes=classes,
        probabilities={name: seen.stacked(f"probe {name}") for name in instruments.probes},
        stories=tuple(seen.stories) if instruments.stories is not None else None,
        narratives={} if instruments.stories is None else _narratives(instruments, pictures.names),
        unreadable=tuple(seen.unreadable),
        not_jpg=sum(path.suffix.lower() != ".jpg" for path in pictures.paths),
    )


def observe_once(
    pictures: LabelledPictures,
    instruments: Instruments,
    folder: Path | None,
    protocol: ProtocolName = "fixed",
    seed: int = 0,
    progress: Progress | None = None,
    whole: bool = True,
) -> Observations:
    """`observe`, or what it gave before of the same files, in a file of `folder`; None: nothing is kept."""
    if folder is None:
        return observe(pictures, instruments, protocol, seed, progress, whole=whole)
    facts = {
        "version": _VERSION,
        "instruments": instruments.fingerprint,
        "asked": [protocol, seed, whole],
        "emotions": list(pictures.emotions),
        "polarities": dict(pictures.polarities),
        "files": [[str(path), _content(path)] for path in pictures.paths],
    }
    key = hashlib.sha256(canonical_json(facts).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    file = folder / f"seen-{key}.npz"
    try:
        return Observations.load(file)
    except DataError:  # not there yet, or damaged
        found = observe(pictures, instruments, protocol, seed, progress, whole=whole)
        found.save(file)
        return found


def _content(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError:  # it will be among the unreadable ones
        return ""


@dataclass
class _Seen:
    """What has been seen so far: rows of the readable pictures, parts of each array, and who was refused."""

    rows: list[int] = field(default_factory=list)
    parts: dict[str, list[Any]] = field(default_factory=dict)
    stories: list[str | None] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)

    def add(self, what: str, values: Any) -> None:
        self.parts.setdefault(what, []).append(np.asarray(values))

    def stacked(self, what: str) -> Any:
        return np.concatenate(self.parts[what])


def _look(
    pictures: LabelledPictures, instruments: Instruments, shown: Instruments, whole: bool, report: Progress
) -> _Seen:
    """shown: the instruments as the protocol holds them, for the distances; the others judge plainly."""
    seen = _Seen()
    for rows, images in _batches(pictures, seen, report):
        seen.rows += rows
        features = _Features(images)
        seen.add("inception", features.of(shown.inception))
        blank = np.empty((len(images), 0), dtype=np.float32)
        seen.add("clip", features.of(ClipFeatures(instruments.clip)) if whole else blank)
        seen.add("clip as shown", features.of(ClipFeatures(shown.clip)) if whole else blank)
        for name, top in instruments.classifiers.items():
            seen.add(f"top {name}", _finite(top(images), name))
        for name, probe in instruments.probes.items():
            seen.add(f"probe {name}", probe.probe.probabilities(features.of(probe.encode)))
        if instruments.stories is not None:
            seen.stories += [
                None if story is None else str(story) for story in instruments.stories.read(images)
            ]
    return seen


class _Features:
    """The features of one batch; an encoder that serves several purposes sees it once."""

    def __init__(self, images: Sequence[Image.Image]) -> None:
        self._images = images
        self._made: list[tuple[EncodePictures, Any]] = []

    def of(self, encode: EncodePictures) -> Any:
        for known, features in self._made:
            if known == encode:
                return features
        features = _finite(encode(self._images), "an encoder")
        self._made.append((encode, features))
        return features


def _batches(
    pictures: LabelledPictures, seen: _Seen, report: Progress
) -> Iterator[tuple[list[int], list[Image.Image]]]:
    for start in range(0, len(pictures), BATCH):
        rows, images = [], []
        for row in range(start, min(start + BATCH, len(pictures))):
            try:
                images.append(pictures.load(row))
                rows.append(row)
            except ImageProblem as problem:
                seen.unreadable.append((str(pictures.paths[row]), problem.detail))
        if rows:
            yield rows, images
        report("looking", min(start + BATCH, len(pictures)), len(pictures))


def _distances(
    readable: LabelledPictures, pairs: Any, instruments: Instruments, report: Progress
) -> np.ndarray:
    """The perceptual distance of each pair; a batch loads each of its pictures once."""
    found = []
    for start in range(0, len(pairs), BATCH):
        chunk = pairs[start : start + BATCH]
        images = {int(row): _reload(readable, int(row)) for row in np.unique(chunk)}
        left, right = ([images[int(row)] for row in side] for side in chunk.T)
        found.append(_finite(instruments.perceptual(left, right), "the perceptual distance"))
        report("comparing pairs", start + len(chunk), len(pairs))
    return np.concatenate(found).astype(np.float64) if found else np.empty(0)


def _reload(readable: LabelledPictures, row: int) -> Image.Image:
    try:
        return readable.load(row)
    except ImageProblem as problem:
        raise DataError(
            f"{readable.paths[row]} changed while it was measured ({problem.detail}): measure again."
        ) from None


def _finite(values: Any, what: str) -> np.ndarray:
    array = np.asarray(values, dtype=np.float32)
    if not np.isfinite(array).all():
        raise DataError(f"{what} gives values that are not finite numbers: load its weights in float32.")
    return array


def _classes(name: str, probe: PictureProbe, emotions: Sequence[str]) -> tuple[str, ...]:
    """The probe's classes, spelt as the pictures' emotions where they are the same."""
    missing = [emotion for emotion in emotions if not probe.probe.knows(emotion)]
    if missing:
        raise DataError(
            f"the {name} probe knows no {', '.join(missing)}, only {', '.join(probe.probe.classes)}: give a "
            "probe that was trained on these emotions, or other pictures."
        )
    ours = {plain(emotion): emotion for emotion in emotions}
    return tuple(ours.get(plain(known), known) for known in probe.probe.classes)


def _groups(polarities: Mapping[str, str], classes: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The group of every emotion that is meant or that a probe may see, as the probes spell it."""
    known = {plain(name): group for name, group in polarities.items()}
    seen = [name for of_probe in classes.values() for name in of_probe]
    return {**polarities, **{name: known[plain(name)] for name in seen if plain(name) in known}}


def _narratives(instruments: Instruments, emotions: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    told = instruments.stories.narratives if instruments.stories is not None else {}
    return {name: tuple(sorted(str(story) for story in told[name])) for name in emotions}


def _require_all(
    pictures: LabelledPictures, readable: LabelledPictures, unreadable: Sequence[tuple[str, str]]
) -> None:
    for emotion in pictures.names:
        if emotion not in readable.names:
            path, detail = unreadable[0]
            raise DataError(
                f"no picture of {emotion} can be read, {path} for one ({detail}): give pictures that open."
            )
