"""Neutral contents of the grid: those that come along, and a file of one's own."""

from __future__ import annotations

from pathlib import Path

from ...errors import DataError
from .content import Content, ContentSet, Kind

# Everyday places and things that occur in pictures of every emotion; 45, as many as EmoCtrl's, but our own.
_ELEMENTS = """
street, room, kitchen, forest, beach, mountain, river, lake, garden, park, field, road, bridge, city, village,
house, church, castle, tower, staircase, window, door, chair, table, bed, lamp, mirror, clock, book, cup,
bottle, bag, shoe, hat, flower, tree, apple, bread, car, train, boat, bicycle, dog, cat, horse
"""
_CAPTIONS = (
    "a man walking along a street in the city",
    "a woman sitting at a table by a window",
    "a child holding a ball in a garden",
    "two people standing on a bridge over a river",
    "a dog lying on the floor of a kitchen",
    "a group of people in front of a house",
    "a boat on a lake with mountains behind it",
    "an empty road through a forest",
    "a train at a station platform",
    "a row of trees beside a field",
    "a cat on a chair in a living room",
    "a horse standing behind a wooden fence",
)
_LONGEST_ELEMENT = 3
_MOST = 1000


def neutral_contents() -> ContentSet:
    """45 elements and 12 captions, counted as EmoCtrl counts: top 5, and a cosine above 0.15."""
    elements = (word.strip() for word in _ELEMENTS.split(","))
    return ContentSet(
        (
            *(Content(_with_article(word), f"a photo of {_with_article(word)}") for word in elements),
            *(Content(caption, caption, "caption") for caption in _CAPTIONS),
        )
    )


def read_contents(path: Path) -> ContentSet:
    """Contents from a text file, one a line: of up to three words an element, of more a caption.

    Raises:
        DataError: no file, no text in it, or too much.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the contents cannot be read ({error}): give a UTF-8 text file.") from None
    texts = list(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()))
    if not 2 <= len(texts) <= _MOST:
        raise DataError(
            f"{path} holds {len(texts)} contents: write 2 to {_MOST}, one a line, such as “a street”."
        )
    if marked := next((text for text in texts if "{" in text), None):
        raise DataError(f"{path}: “{marked[:60]}” holds a mark: write the content alone, such as “a street”.")
    return ContentSet(tuple(Content(text, _sought(text), _kind(text)) for text in texts))


def _sought(text: str) -> str:
    return text if _kind(text) == "caption" else f"a photo of {text}"


def _kind(text: str) -> Kind:
    return "element" if len(text.split()) <= _LONGEST_ELEMENT else "caption"


def _with_article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"
