"""Neutral contents that the toy world's base knows as words: its places, and things that recur in stories."""

from __future__ import annotations

from ..evaluate.analyses.content import Content, ContentSet
from .captions import PLACES

_THINGS = (
    "a dog",
    "a tree",
    "a car",
    "a boat",
    "a house",
    "an umbrella",
    "a flower",
    "a balloon",
    "a ball",
    "a cake",
)
# Of 15 contents about as selective as EmoCtrl's 5 of 45.
_TOP = 2


def toy_contents() -> ContentSet:
    """Five places and ten things, each looked for by its own words."""
    return ContentSet(tuple(Content(words, words) for words in (*PLACES.values(), *_THINGS)), top=_TOP)
