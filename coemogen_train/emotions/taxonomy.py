"""A taxonomy: the names of its emotions, their polarity groups, and how forgivingly a name is read."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..errors import TaxonomyError, quoted
from .spelling import forgiven, plain

# Far above any taxonomy in use (GoEmotions has 28): what bounds the work that a hostile file can ask for.
MAX_EMOTIONS = 1000
MAX_NAME_LENGTH = 100
# These separate the terms and rows of a mixture, so a name cannot contain them.
_MIXTURE_MARKS = "+;"
# What starts like this in a mixture is a weight, so no word of a name may.
WEIGHT_START = r"[+\-\d.]"


@dataclass(frozen=True)
class Emotion:
    """One emotion: its name, its polarity group and, where known, its place in the affect plane.

    `valence` (unpleasant to pleasant) and `arousal` (calm to stirred) are finite numbers on whatever scale
    the taxonomy's author uses; nothing is computed from them in training.
    """

    name: str
    polarity: str
    valence: float | None = None
    arousal: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The emotion as JSON and TOML hold it; an absent valence or arousal is left out."""
        fields: dict[str, Any] = {"name": self.name, "polarity": self.polarity}
        if self.valence is not None:
            fields["valence"] = self.valence
        if self.arousal is not None:
            fields["arousal"] = self.arousal
        return fields


@dataclass(frozen=True)
class Taxonomy:
    """An ordered set of emotions, each in one polarity group; every tensor with an axis E has this order.

    Raises:
        TaxonomyError: no emotion, a name twice (in any spelling), an impossible name, a number not finite.
    """

    name: str
    emotions: tuple[Emotion, ...]

    def __post_init__(self) -> None:
        _check_name(self.name, "the taxonomy's name")
        if not 1 <= len(self.emotions) <= MAX_EMOTIONS:
            raise TaxonomyError(
                f"the taxonomy '{self.name}' has {len(self.emotions)} emotions: give it 1 to {MAX_EMOTIONS}."
            )
        seen: dict[str, str] = {}
        for emotion in self.emotions:
            _check_emotion(emotion)
            spelling = plain(emotion.name)
            if spelling in seen:
                raise TaxonomyError(
                    f"the emotions '{seen[spelling]}' and '{emotion.name}' are the same name: keep one."
                )
            seen[spelling] = emotion.name

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The emotions' names, in order."""
        return tuple(emotion.name for emotion in self.emotions)

    @cached_property
    def polarities(self) -> tuple[str, ...]:
        """The polarity groups, in order of first appearance."""
        return tuple(dict.fromkeys(emotion.polarity for emotion in self.emotions))

    @cached_property
    def polarity_of(self) -> tuple[int, ...]:
        """For each emotion the index of its polarity group."""
        return tuple(self.polarities.index(emotion.polarity) for emotion in self.emotions)

    @property
    def num_emotions(self) -> int:
        """E, the number of emotions."""
        return len(self.emotions)

    @property
    def num_polarities(self) -> int:
        """P, the number of polarity groups."""
        return len(self.polarities)

    @property
    def num_groups(self) -> int:
        """G = E + P, the number of LoRAs that HiLoRA holds per layer: emotions first, then polarities."""
        return self.num_emotions + self.num_polarities

    def index(self, name: str) -> int:
        """The position of an emotion; case, spaces, underscores and hyphens do not matter.

        Raises:
            TaxonomyError: no such emotion; the message lists those there are, the nearest first.
        """
        wanted = plain(name)
        if wanted in self._places:
            return self._places[wanted]
        near = sorted(
            self.names,
            key=lambda known: -difflib.SequenceMatcher(None, wanted[:MAX_NAME_LENGTH], plain(known)).ratio(),
        )
        raise TaxonomyError(
            f"there is no emotion '{name.strip()[:MAX_NAME_LENGTH]}' in the taxonomy '{self.name}': "
            f"choose one of {', '.join(near)}."
        )

    def forgiving_index(self, label: str) -> tuple[int, bool] | None:
        """The position of the emotion that a label means, and whether `index` would find it too; else None.

        Beyond case, spaces, underscores and hyphens are forgiven: another form of the same word ("amused" for
        amusement), or one slip in a longer one ("excitment"), as `spelling.forgiven` says. Nothing is
        guessed.
        """
        wanted = plain(label)
        if wanted in self._places:
            return self._places[wanted], True
        meant = forgiven(wanted, tuple(self._places))
        return None if meant is None else (self._places[meant], False)

    @cached_property
    def _places(self) -> Mapping[str, int]:
        """The plain spelling of each emotion, and its position."""
        return {plain(name): place for place, name in enumerate(self.names)}

    def to_dict(self) -> dict[str, Any]:
        """The taxonomy as JSON and TOML hold it."""
        return {"name": self.name, "emotions": [emotion.to_dict() for emotion in self.emotions]}

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> Taxonomy:
        """Read what `to_dict` wrote, or what a person wrote in TOML, checking every field.

        Raises:
            TaxonomyError: a key that is missing, unknown or of the wrong kind, or what `Taxonomy` refuses.
        """
        _check_keys(fields, {"name", "emotions"}, {"name", "emotions"}, "a taxonomy")
        rows = fields["emotions"]
        if not isinstance(rows, list):
            raise TaxonomyError("'emotions' must be a list, in TOML one [[emotions]] table per emotion.")
        if len(rows) > MAX_EMOTIONS:
            raise TaxonomyError(f"a taxonomy has at most {MAX_EMOTIONS} emotions; this one has {len(rows)}.")
        return Taxonomy(fields["name"], tuple(_read_emotion(row) for row in rows))


def _read_emotion(row: Any) -> Emotion:
    if not isinstance(row, Mapping):
        raise TaxonomyError("every emotion needs a name and a polarity, in TOML as one [[emotions]] table.")
    _check_keys(row, {"name", "polarity"}, {"name", "polarity", "valence", "arousal"}, "an emotion")
    return Emotion(row["name"], row["polarity"], row.get("valence"), row.get("arousal"))


def _check_keys(fields: Any, needed: set[str], known: set[str], what: str) -> None:
    if not isinstance(fields, Mapping):
        raise TaxonomyError(f"{what} must be a table of {', '.join(sorted(known))}.")
    for key in sorted(needed - set(fields)):
        raise TaxonomyError(f"{what} lacks its '{key}': add it.")
    for key in fields:
        if key not in known:
            raise TaxonomyError(f"{what} has no {quoted(key)}; it has {', '.join(sorted(known))}.")


def _check_name(name: Any, what: str) -> None:
    if not isinstance(name, str) or not name.strip() or name != name.strip():
        raise TaxonomyError(f"{what} must be a word or phrase without spaces around it, not {quoted(name)}.")
    if len(name) > MAX_NAME_LENGTH or not name.isprintable() or any(mark in name for mark in _MIXTURE_MARKS):
        raise TaxonomyError(
            f"{what} {quoted(name)} must have at most {MAX_NAME_LENGTH} printable characters, "
            "'+' and ';' not among them, since these separate the parts of a mixture."
        )


def _check_emotion(emotion: Emotion) -> None:
    _check_name(emotion.name, "an emotion's name")
    _check_name(emotion.polarity, f"the polarity of '{emotion.name}'")
    if plain(emotion.name) in ("", "all") or re.search(rf"(^|\s){WEIGHT_START}", emotion.name):
        raise TaxonomyError(
            f"'{emotion.name}' cannot name an emotion: 'all' means every emotion, a number means a weight."
        )
    for what, number in (("valence", emotion.valence), ("arousal", emotion.arousal)):
        if number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, int | float) or not _finite(number):
            raise TaxonomyError(
                f"the {what} of '{emotion.name}' must be a finite number, not {quoted(number)}."
            )


def _finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an int too large for a float
        return False
