"""Neutral prompts: what a picture shows, with a place for the pseudo-words, and no word of the emotion."""

from __future__ import annotations

import re
from collections.abc import Sequence

# A prompt of this many words tells the scene and leaves most of the 77 positions free.
MAX_WORDS = 8
_TEMPLATES = ("{content}, {{emotion}}", "{{emotion}}, {content}")

_STOP_TEXT = """
a about above across after again against all along also am among an and another any are around as at away back
be because been before behind being below beneath beside between beyond both but by can close could did do
does down during each few for from full had has have having he her here him his how i in inside into is it its
itself just left like many more most near next no not of off on one onto or other out outside over own past
right same she so some something still such than that the their them then there these they this those three
through to together too toward towards two under until up upon very was we were what when where which while
who whose will with within without would you your image picture photo photograph painting scene evoke evokes
feeling feelings emotion emotional mood atmosphere
"""
_STOP_WORDS = frozenset(_STOP_TEXT.split())


def content_words(
    caption: str | None, objects: Sequence[str], scene: str | None, emotion_names: Sequence[str]
) -> tuple[str, ...]:
    """Give what a picture shows, as short words without the emotion.

    The annotation's objects and scene where there are any; otherwise the caption's words, without stop words.
    A word that resembles the name of any emotion is left out: the pseudo-words alone shall bring it in.

    Returns:
        At most `MAX_WORDS` words or short labels, in their order; empty where nothing is known.
    """
    annotated = [*objects, *([scene] if scene else [])]
    words = annotated or re.findall(r"[^\W\d_]{3,}", (caption or "").casefold())
    stems = [stem for name in emotion_names for stem in _stems(name)]
    kept: list[str] = []
    for word in words:
        label = re.sub(r"[{}_,\s]+", " ", word).strip().casefold()
        if label and label not in _STOP_WORDS and label not in kept and not _resembles(label, stems):
            kept.append(label)
    return tuple(kept[:MAX_WORDS])


def neutral_prompt(words: Sequence[str], draw: float) -> str:
    """Put the pseudo-words' place `{emotion}` after or before the content; `draw` in 0..1 chooses."""
    template = _TEMPLATES[min(int(draw * len(_TEMPLATES)), len(_TEMPLATES) - 1)]
    return template.format(content=", ".join(words))


def _stems(name: str) -> list[str]:
    """Give the beginnings by which a name's relatives are known: sadness and sad, anger and angry."""
    return [word[: 3 if len(word) <= 5 else 4] for word in re.findall(r"[^\W\d_]{3,}", name.casefold())]


def _resembles(label: str, stems: Sequence[str]) -> bool:
    return any(
        word.startswith(stem) or (len(word) >= 3 and stem.startswith(word))
        for word in label.split()
        for stem in stems
    )
