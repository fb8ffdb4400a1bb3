"""The taxonomies that data sets brought along, by name, and those of a user's own TOML file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import TaxonomyError
from .taxonomy import Emotion, Taxonomy


def _group(polarity: str, names: str) -> tuple[Emotion, ...]:
    return tuple(Emotion(name, polarity) for name in names.split())


# The eight of Mikels et al. (2005), in the order of EmoSet (METHOD: the default taxonomy).
MIKELS = Taxonomy(
    "mikels",
    _group("positive", "amusement awe contentment excitement")
    + _group("negative", "anger disgust fear sadness"),
)

# Emotion6: the six of Ekman and neutral, in its columns' order. Surprise can be of either kind.
EKMAN = Taxonomy(
    "ekman",
    (
        *_group("negative", "anger disgust fear"),
        *_group("positive", "joy"),
        *_group("negative", "sadness"),
        *_group("neutral", "surprise neutral"),
    ),
)

# EmoArt's twelve, each on the side of pleasure where Russell's circumplex has it.
EMOART = Taxonomy(
    "emoart",
    (
        *_group("negative", "alarmed annoyed"),
        *_group("positive", "aroused"),
        *_group("negative", "bored"),
        *_group("positive", "calm contentment excited"),
        *_group("negative", "frustrated"),
        *_group("positive", "glad happy"),
        *_group("negative", "sad tired"),
    ),
)

# The 24 leaves of Plutchik's wheel, as FindingEmo uses them: three strengths of eight, the mildest first.
PLUTCHIK = Taxonomy(
    "plutchik",
    (
        *_group("positive", "serenity joy ecstasy"),
        *_group("positive", "acceptance trust admiration"),
        *_group("negative", "apprehension fear terror"),
        *_group("neutral", "distraction surprise amazement"),
        *_group("negative", "pensiveness sadness grief"),
        *_group("negative", "boredom disgust loathing"),
        *_group("negative", "annoyance anger rage"),
        *_group("neutral", "interest anticipation vigilance"),
    ),
)

BUILT_IN: Mapping[str, Taxonomy] = {known.name: known for known in (MIKELS, EKMAN, EMOART, PLUTCHIK)}


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
    fields = _read_toml(path)
    fields.setdefault("name", path.stem)
    try:
        return Taxonomy.from_dict(fields)
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
