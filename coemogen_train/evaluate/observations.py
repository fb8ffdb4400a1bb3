"""The numbers that pictures gave, and their file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..files import atomic_path
from .metrics import correct

FloatArray = NDArray[np.float64]
_ARRAYS = ("inception", "clip", "pairs", "lpips", "sem_d")
_FACTS = (
    "protocol",
    "emotions",
    "polarities",
    "turns",
    "classes",
    "stories",
    "narratives",
    "unreadable",
    "not_jpg",
)


@dataclass(frozen=True, eq=False)
class Observations:
    """What the instruments saw of n readable pictures and p pairs of them.

    protocol: "fixed" or "published". emotions: [n]. polarities: of each emotion, and of each other that a
    probe knows, its group; or empty.
    inception: [n, D]. clip: [n, V], unnormalised. pairs: [p, 2] rows of pictures; turns: [p], the emotion for
    which each pair was drawn; lpips, sem_d: [p], the pairs' perceptual distance and the mean squared
    difference of their CLIP features. tops: by classifier [n], its largest probability. classes,
    probabilities: by probe, its [E] emotions and [n, E]. stories: [n] names of narratives, None where there
    are none in this world; narratives: every emotion's. unreadable: files that could not be decoded, and
    why. not_jpg: files that the published scripts would have left out in silence.
    """

    protocol: str
    emotions: tuple[str, ...]
    polarities: Mapping[str, str]
    inception: NDArray[np.float32]
    clip: NDArray[np.float32]
    pairs: NDArray[np.int64]
    turns: tuple[str, ...]
    lpips: FloatArray
    sem_d: FloatArray
    tops: Mapping[str, NDArray[np.float32]]
    classes: Mapping[str, tuple[str, ...]]
    probabilities: Mapping[str, FloatArray]
    stories: tuple[str | None, ...] | None = None
    narratives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unreadable: tuple[tuple[str, str], ...] = ()
    not_jpg: int = 0

    def __len__(self) -> int:
        return len(self.emotions)

    @property
    def names(self) -> tuple[str, ...]:
        """The emotions that there are, each once, in order."""
        return tuple(dict.fromkeys(self.emotions))

    @property
    def counts(self) -> dict[str, int]:
        """How many pictures each emotion has."""
        return {name: self.emotions.count(name) for name in self.names}

    def predicted(self, probe: str) -> list[str]:
        """[n], the emotion that a probe finds likeliest in each picture."""
        best = self.probabilities[probe].argmax(axis=1)
        return [self.classes[probe][column] for column in best]

    def right(self) -> dict[str, FloatArray]:
        """By probe [n]: 1 where it sees the picture's emotion, else 0."""
        return {probe: correct(self.predicted(probe), self.emotions) for probe in self.classes}

    def right_polarity(self) -> dict[str, FloatArray]:
        """By probe [n]: 1 where the emotion that it sees is of the right group; empty without groups."""
        if not all(name in self.polarities for name in self.names):
            return {}
        wanted = [self.polarities[emotion] for emotion in self.emotions]
        seen = {probe: [self.polarities.get(e, "") for e in self.predicted(probe)] for probe in self.classes}
        return {probe: correct(groups, wanted) for probe, groups in seen.items()}

    def sem_c(self) -> FloatArray | None:
        """[n], the largest probability that any classifier gives any class; None without classifiers."""
        return (
            np.max([np.asarray(top, dtype=np.float64) for top in self.tops.values()], axis=0)
            if self.tops
            else None
        )

    def rows(self, emotion: str) -> NDArray[np.intp]:
        """The numbers of an emotion's pictures."""
        return np.flatnonzero(np.array([name == emotion for name in self.emotions]))

    def save(self, path: Path) -> None:
        """Write a .npz file, atomically: arrays, and the rest as JSON."""
        arrays: dict[str, Any] = {name: getattr(self, name) for name in _ARRAYS}
        arrays |= {f"top {name}": top for name, top in self.tops.items()}
        arrays |= {f"probabilities {name}": shares for name, shares in self.probabilities.items()}
        facts = {name: getattr(self, name) for name in _FACTS}
        arrays["facts"] = np.frombuffer(json.dumps(facts).encode("utf-8"), dtype=np.uint8)
        with atomic_path(path) as part, part.open("wb") as stream:
            np.savez(stream, **arrays)

    @classmethod
    def load(cls, path: Path) -> Observations:
        """Read what `save` wrote.

        Raises:
            DataError: it is something else, or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            facts = json.loads(bytes(arrays.pop("facts")).decode("utf-8"))
            found = {name: arrays[name] for name in _ARRAYS} | {name: _tuples(facts[name]) for name in _FACTS}
            made = cls(
                **found,
                tops=_named(arrays, "top "),
                probabilities=_named(arrays, "probabilities "),
            )
            _check(made)
        except (OSError, ValueError, KeyError, TypeError, BadZipFile, EOFError) as error:
            raise DataError(
                f"{path} holds no observations, or is damaged ({error}): measure again."
            ) from None
        return made


def _named(arrays: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _tuples(value: Any) -> Any:
    """Lists of JSON as the tuples that they were."""
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value


def _check(made: Observations) -> None:
    n, p = len(made.emotions), len(made.turns)
    lengths = [len(made.inception), len(made.clip), *map(len, made.tops.values())]
    lengths += map(len, made.probabilities.values())
    if made.stories is not None:
        lengths.append(len(made.stories))
    of_pairs = {len(made.pairs), len(made.lpips), len(made.sem_d)}
    if set(lengths) != {n} or of_pairs != {p} or (p and made.pairs.max() >= n):
        raise ValueError("its parts are not of the same pictures")
