"""From an answer's lines to its sentences, and what each sentence lacks to be a caption."""

from __future__ import annotations

import re

from .verdicts import pronounces

# CLIP reads 75 tokens, about 60 words; the prompt asks for 40.
MAX_WORDS = 60
MAX_LENGTH = 500
MIN_WORDS = 4

_BULLET = re.compile(
    r"^\s*(?:[-*+\N{BULLET}\N{EN DASH}\N{EM DASH}\N{WHITE BULLET}\N{BLACK SMALL SQUARE}]\s+|"
    r"\(?\d{1,2}\s*[.):]\s+|\(?[a-hA-H][.)]\s+|(?:option|caption|version|alternative)\s*\d{1,2}\s*[:.)]\s*)",
    re.IGNORECASE,
)
# "Brightness: low" one by one is the six points answered as a form.
_FIELD = re.compile(
    r"^\s*(?:brightness|colou?rs?|colou?r palette|scene|setting|objects?|facial expressions?|expressions?|"
    r"(?:human )?actions?|lighting|mood|emotion|people|subject|background)\s*:\s*",
    re.IGNORECASE,
)
_INLINE_ITEMS = re.compile(r"(?:^|(?<=[.;!?:] ))\(?\d{1,2}[.)] (?=\S)")
_ABBREVIATION = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|st|sr|jr|prof|no|vs|etc|e\.g|i\.e|approx|ca|inc|u\.s)|\b[A-Z])\.$", re.IGNORECASE
)
_FULL_STOPS = (".", "!", "?", "\N{HORIZONTAL ELLIPSIS}", "\N{IDEOGRAPHIC FULL STOP}")
_CLOSERS = "\"'\N{RIGHT DOUBLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK})]"
_END = re.compile(
    r"[.!?\N{HORIZONTAL ELLIPSIS}]+"
    r"[\"'\N{RIGHT DOUBLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK})\]]*(?=\s|$)"
)
_LEFT_OVER = re.compile(r"[<>{}|`\\\[\]]|\*\*|##|https?://|\bwww\.")
_COUNT = re.compile(r"\s*\((?:word count:?\s*)?\d{1,3}(?:\s*words?)?\)\s*(?=[.!]?\s*$)", re.IGNORECASE)


def items_of(lines: list[str]) -> list[str]:
    """The entries of an answer that is a list, without their bullets; [] where it is none.

    One bullet before a single line is no list, and neither is a number that a sentence happens to hold.
    """
    for mark in (_BULLET, _FIELD):
        entries = [line for line in lines if mark.match(line)]
        if len(entries) >= 2:
            return [mark.sub("", line).strip() for line in entries]
    if len(lines) == 1:
        parts = [part.strip() for part in _INLINE_ITEMS.split(lines[0]) if part.strip()]
        if len(_INLINE_ITEMS.findall(lines[0])) >= 2:
            return parts
    return []


def without_bullet(line: str) -> str:
    """A line without the one bullet before it."""
    return _BULLET.sub("", line, count=1).strip()


def sentences_of(lines: list[str]) -> list[str]:
    """The sentences of the lines; a line that continues in small letters is one with the next."""
    paragraphs: list[str] = []
    for line in lines:
        if paragraphs and not ends(paragraphs[-1]) and line[:1].islower():
            paragraphs[-1] += " " + line
        else:
            paragraphs.append(line)
    return [sentence for paragraph in paragraphs for sentence in _split(paragraph)]


def ends(sentence: str) -> bool:
    """Whether a sentence has its full stop."""
    return sentence.rstrip(_CLOSERS).endswith(_FULL_STOPS)


def without_count(sentence: str) -> str:
    """Without the "(37 words)" that some models append."""
    return _COUNT.sub("", sentence).strip()


def faults_of(sentence: str, emotion: str, cut_off: bool) -> tuple[str, ...]:
    """What keeps a sentence from being a caption, () for nothing."""
    words = re.findall(r"[^\W_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}-][^\W_]+)*", sentence)
    checks = (
        ("language", _foreign(sentence)),
        ("repetition", loops(sentence)),
        ("markup", _LEFT_OVER.search(sentence) is not None),
        ("too_short", len(words) < MIN_WORDS),
        ("too_long", len(words) > MAX_WORDS or len(sentence) > MAX_LENGTH),
        ("unfinished", cut_off and not ends(sentence)),
        ("verdict", pronounces(sentence, emotion)),
    )
    return tuple(name for name, found in checks if found)


def loops(text: str) -> bool:
    """Whether the text repeats itself as a model does that is caught: a phrase three times in a row or more.

    A word alone may stand three times ("a very, very, very long road"), a letter five times.
    """
    if re.search(r"([^\s.\d])\1{5}", text):
        return True
    words = re.findall(r"\w+", text.casefold())[:2000]
    for length in range(1, 16):
        wanted = 3 if length == 1 else 2  # repetitions after the first
        run = 0
        for place in range(length, len(words)):
            run = run + 1 if words[place] == words[place - length] else 0
            if run >= wanted * length:
                return True
    return False


def _foreign(sentence: str) -> bool:
    """Whether most letters are of another script than Latin, which CLIP's text encoder has hardly seen."""
    letters = [letter for letter in sentence if letter.isalpha()]
    return bool(letters) and sum(ord(letter) > 0x24F for letter in letters) > 0.3 * len(letters)


def _split(paragraph: str) -> list[str]:
    sentences, start = [], 0
    for stop in _END.finditer(paragraph):
        rest = paragraph[stop.end() :].lstrip()
        # What goes on in small letters is the same sentence: "about 3 p.m. on a beach", "Wow! she says".
        goes_on = rest[:1].islower() or _ABBREVIATION.search(
            paragraph[max(start, stop.start() - 12) : stop.start() + 1]
        )
        if rest and goes_on:
            continue
        sentences.append(paragraph[start : stop.end()].strip())
        start = stop.end()
    if paragraph[start:].strip():
        sentences.append(paragraph[start:].strip())
    return sentences
