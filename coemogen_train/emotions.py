"""Emotions as data: a taxonomy names and groups them by polarity; a mixture weighs them, a row per picture.

Standard library only: the ComfyUI nodes, the adapter file and the trainer all read these.
"""

from __future__ import annotations

import difflib
import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .errors import MixtureError, TaxonomyError

# Far above any taxonomy in use (GoEmotions has 28): what bounds the work that a hostile file can ask for.
MAX_EMOTIONS = 1000
MAX_NAME_LENGTH = 100
MAX_MIXTURE_ROWS = 4096
MAX_MIXTURE_LENGTH = 100_000
# These separate the terms and rows of a mixture, so a name cannot contain them.
_MIXTURE_MARKS = "+;"
# What starts like this in a mixture is a weight, so no word of a name may.
_WEIGHT_START = r"[+\-\d.]"


def _plain(name: str) -> str:
    """A name without case, spaces, underscores and hyphens: the form in which two spellings are compared."""
    return re.sub(r"[\s_\-]+", "", name).casefold()


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
        plain: dict[str, Any] = {"name": self.name, "polarity": self.polarity}
        if self.valence is not None:
            plain["valence"] = self.valence
        if self.arousal is not None:
            plain["arousal"] = self.arousal
        return plain


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
            spelling = _plain(emotion.name)
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
        wanted = _plain(name)
        spellings = [_plain(known) for known in self.names]
        if wanted in spellings:
            return spellings.index(wanted)
        near = sorted(
            self.names,
            key=lambda known: -difflib.SequenceMatcher(None, wanted[:MAX_NAME_LENGTH], _plain(known)).ratio(),
        )
        raise TaxonomyError(
            f"there is no emotion '{name.strip()[:MAX_NAME_LENGTH]}' in the taxonomy '{self.name}': "
            f"choose one of {', '.join(near)}."
        )

    def to_dict(self) -> dict[str, Any]:
        """The taxonomy as JSON and TOML hold it."""
        return {"name": self.name, "emotions": [emotion.to_dict() for emotion in self.emotions]}

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> Taxonomy:
        """Read what `to_dict` wrote, or what a person wrote in TOML, checking every field.

        Raises:
            TaxonomyError: a key that is missing, unknown or of the wrong kind, or what `Taxonomy` refuses.
        """
        _check_keys(plain, {"name", "emotions"}, {"name", "emotions"}, "a taxonomy")
        rows = plain["emotions"]
        if not isinstance(rows, list):
            raise TaxonomyError("'emotions' must be a list, in TOML one [[emotions]] table per emotion.")
        if len(rows) > MAX_EMOTIONS:
            raise TaxonomyError(f"a taxonomy has at most {MAX_EMOTIONS} emotions; this one has {len(rows)}.")
        return Taxonomy(plain["name"], tuple(_read_emotion(row) for row in rows))


def _read_emotion(row: Any) -> Emotion:
    if not isinstance(row, Mapping):
        raise TaxonomyError("every emotion needs a name and a polarity, in TOML as one [[emotions]] table.")
    _check_keys(row, {"name", "polarity"}, {"name", "polarity", "valence", "arousal"}, "an emotion")
    return Emotion(row["name"], row["polarity"], row.get("valence"), row.get("arousal"))


def _check_keys(plain: Any, needed: set[str], known: set[str], what: str) -> None:
    if not isinstance(plain, Mapping):
        raise TaxonomyError(f"{what} must be a table of {', '.join(sorted(known))}.")
    for key in sorted(needed - set(plain)):
        raise TaxonomyError(f"{what} lacks its '{key}': add it.")
    for key in plain:
        if key not in known:
            raise TaxonomyError(f"{what} has no '{key}'; it has {', '.join(sorted(known))}.")


def _check_name(name: Any, what: str) -> None:
    if not isinstance(name, str) or not name.strip() or name != name.strip():
        raise TaxonomyError(f"{what} must be a word or phrase without spaces around it, not {name!r}.")
    if len(name) > MAX_NAME_LENGTH or not name.isprintable() or any(mark in name for mark in _MIXTURE_MARKS):
        raise TaxonomyError(
            f"{what} {name[:MAX_NAME_LENGTH]!r} must have at most {MAX_NAME_LENGTH} printable characters, "
            "'+' and ';' not among them, since these separate the parts of a mixture."
        )


def _check_emotion(emotion: Emotion) -> None:
    _check_name(emotion.name, "an emotion's name")
    _check_name(emotion.polarity, f"the polarity of '{emotion.name}'")
    if _plain(emotion.name) in ("", "all") or re.search(rf"(^|\s){_WEIGHT_START}", emotion.name):
        raise TaxonomyError(
            f"'{emotion.name}' cannot name an emotion: 'all' means every emotion, a number means a weight."
        )
    for what, number in (("valence", emotion.valence), ("arousal", emotion.arousal)):
        if number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, int | float) or not _finite(number):
            raise TaxonomyError(f"the {what} of '{emotion.name}' must be a finite number, not {number!r}.")


def _finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an int too large for a float
        return False


# The eight of Mikels et al. (2005), in the order of EmoSet (METHOD: the default taxonomy).
MIKELS = Taxonomy(
    "mikels",
    tuple(Emotion(name, "positive") for name in ("amusement", "awe", "contentment", "excitement"))
    + tuple(Emotion(name, "negative") for name in ("anger", "disgust", "fear", "sadness")),
)

BUILT_IN: Mapping[str, Taxonomy] = {MIKELS.name: MIKELS}


def load_taxonomy(spec: str | Path) -> Taxonomy:
    """The taxonomy of a built-in name ("mikels") or of a TOML file.

    A file holds `name = "..."` and one `[[emotions]]` table per emotion with `name`, `polarity` and, if
    wanted, `valence` and `arousal`. Without a `name` the file's own name is taken.

    Raises:
        TaxonomyError: neither a built-in name nor a readable, valid file; the message names the file.
    """
    if isinstance(spec, str) and spec.strip().casefold() in BUILT_IN:
        return BUILT_IN[spec.strip().casefold()]
    path = Path(spec)
    if not path.is_file():
        raise TaxonomyError(
            f"'{spec}' is neither a taxonomy of the package ({', '.join(BUILT_IN)}) nor a TOML file: "
            "give the path of a file that lists your emotions."
        )
    plain = _read_toml(path)
    plain.setdefault("name", path.stem)
    try:
        return Taxonomy.from_dict(plain)
    except TaxonomyError as error:
        raise TaxonomyError(f"{path}: {error}") from None


def _read_toml(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise TaxonomyError(f"{path}: it cannot be read as text ({error}); save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise TaxonomyError(f"{path}: this is not valid TOML ({error}); mend the line it names.") from None


def one_hot(index: int, taxonomy: Taxonomy) -> tuple[float, ...]:
    """The mixture row of one emotion: 1 at `index`, 0 elsewhere."""
    return tuple(float(index == position) for position in range(taxonomy.num_emotions))


def parse_mixture(text: str, taxonomy: Taxonomy) -> tuple[tuple[float, ...], ...]:
    """Read a mixture: one row of E weights per picture.

    The grammar, where case, spaces, underscores and hyphens in a name do not matter:

        mixture = row { ";" row }           one row per picture; a line break separates rows too,
                                            and an empty row (a ";" at the end) is ignored
        row     = "all" | term { "+" term } "all" stands for E rows, one per emotion
        term    = name [ weight ]           "awe 0.7"; "awe" alone takes its share

    Weights are finite, not negative, and taken as written: "awe 0.7 + fear 0.7" is stronger than "awe", it
    is not rescaled to 1. Where no term of a row has a weight, the row is shared equally ("awe + fear" is .5
    and .5, "awe" is 1). A row with weights on some terms only is refused, and so is an emotion that occurs
    twice in a row, and a row in which all weights are 0.

    Raises:
        MixtureError: the text breaks the grammar, or names an emotion that the taxonomy lacks.
    """
    if len(text) > MAX_MIXTURE_LENGTH:
        raise MixtureError(f"the mixture has {len(text)} characters; at most {MAX_MIXTURE_LENGTH} are read.")
    rows: list[tuple[float, ...]] = []
    for part in re.split(r"[;\n]", text):
        if not part.strip():
            continue
        if _plain(part) == "all":
            rows.extend(one_hot(index, taxonomy) for index in range(taxonomy.num_emotions))
        else:
            rows.append(_parse_row(part.strip(), taxonomy))
        if len(rows) > MAX_MIXTURE_ROWS:
            raise MixtureError(f"the mixture has more than {MAX_MIXTURE_ROWS} rows: use fewer.")
    if not rows:
        raise MixtureError(
            f"the mixture is empty: write an emotion, such as '{taxonomy.names[0]}', or 'all'."
        )
    return tuple(rows)


def _parse_row(part: str, taxonomy: Taxonomy) -> tuple[float, ...]:
    terms = [_parse_term(term, part) for term in part.split("+")]
    weights = [weight for _, weight in terms if weight is not None]
    if weights and len(weights) < len(terms):
        raise MixtureError(f"in '{part}' some emotions have a weight and some have none: give all or none.")
    row = [0.0] * taxonomy.num_emotions
    found: set[int] = set()
    for name, weight in terms:
        try:
            index = taxonomy.index(name)
        except TaxonomyError as error:
            raise MixtureError(f"in the mixture '{part}' {error}") from None
        if index in found:
            raise MixtureError(f"in '{part}' {taxonomy.names[index]} occurs twice: add its weights up.")
        found.add(index)
        row[index] = 1.0 / len(terms) if weight is None else weight
    if not any(row):
        raise MixtureError(f"in '{part}' every weight is 0: give one emotion at least a weight above 0.")
    return tuple(row)


def _parse_term(term: str, part: str) -> tuple[str, float | None]:
    """The name and, where one is written, the weight of "awe 0.7"."""
    words = term.split()
    if not words:
        raise MixtureError(f"in '{part}' a '+' has nothing beside it: write an emotion on both sides.")
    if not re.match(_WEIGHT_START, words[-1]):
        return " ".join(words), None
    try:
        weight = float(words[-1])
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight) or weight < 0:
        raise MixtureError(f"'{words[-1]}' in '{part}' is no weight: write a number such as 0.7.")
    if len(words) == 1:
        raise MixtureError(f"in '{part}' the weight {words[-1]} stands alone: put its emotion before it.")
    return " ".join(words[:-1]), weight


def format_mixture(row: Iterable[float], taxonomy: Taxonomy) -> str:
    """A row of weights as `parse_mixture` reads it; weights keep every digit, a lone 1 is left out."""
    terms = [(name, weight) for name, weight in zip(taxonomy.names, row, strict=True) if weight]
    if len(terms) == 1 and terms[0][1] == 1.0:
        return terms[0][0]
    return " + ".join(f"{name} {weight!r}" for name, weight in terms)
