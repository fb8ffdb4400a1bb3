"""The blind second pass: which emotion would a sentence evoke, asked of a model that sees nothing else.

Where it says another emotion than the picture's label, the caption may have reasoned wrongly (the paper's
own first limitation). Whoever changes a word of the request changes `BLIND_VERSION` too, since it is stored
beside every judgement.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from .caption import PLAIN, BatchCaptioner, Captioner, Wording, later_wording
from .cleaning import MAX_ANSWER
from .unwrap import plain_characters, without_lead_in, without_markup, without_quotes, without_reasoning

BLIND_VERSION = "1"
_NONE = "none"
# What may stand before the word, or around it.
_ANNOUNCED = re.compile(
    r"^(?:(?:the|this|its|my)\s+)?(?:(?:main|primary|dominant|evoked|most likely)\s+)?emotion(?:\s+evoked)?"
    r"\s*(?:is|would be|[:=])\s*",
    re.IGNORECASE,
)
_BULLET = re.compile(r"^(?:[-*\N{BULLET}]|\d{1,2}[.)])\s+")
_BRACKETS = " []()"
_KEYS = ("emotion", "answer", "label", "output", "text")
_DENIES = re.compile(
    r"\b(?:not|no|never|neither|nor|without|cannot|except|but|unlike|instead|rather)\b|"
    r"n['\N{RIGHT SINGLE QUOTATION MARK}]t\b|"
    r"[\N{CROSS MARK}\N{NO ENTRY}\N{NO ENTRY SIGN}\N{THUMBS DOWN SIGN}\N{MULTIPLICATION X}"
    r"\N{HEAVY MULTIPLICATION X}\N{BALLOT X}\N{HEAVY BALLOT X}\N{NOT EQUAL TO}\N{NOT SIGN}]",
    re.IGNORECASE,
)
_PROMPT = (
    'This sentence describes a picture: "{sentence}" Which of these emotions would the picture evoke in the '
    "people who see it: {names}? Answer with one of these words alone, exactly as it is written here, or "
    "with 'none' if the sentence does not tell."
)


def blind_prompt(sentence: str, names: Sequence[str]) -> str:
    """The request. names: the emotions of the taxonomy, in its order."""
    return _PROMPT.format(sentence=" ".join(sentence.split()), names=", ".join(names))


def parse_emotion(raw: str, names: Sequence[str]) -> str | None:
    """The emotion that an answer names, "" where it says none, None for any answer but one of these words.

    A word may be announced ("The emotion is awe.") and stand in brackets or JSON. An answer that names a
    second emotion anywhere, or denies something, is none: better unclear than wrong.
    """
    said, _ = without_reasoning(plain_characters(raw[:MAX_ANSWER]))
    text = _from_json(said)
    if text is None:
        return None
    known = {_NONE: "", **{_word(name): name for name in names}}
    word = _word(without_quotes(without_lead_in(without_markup(text))))
    for _ in range(2):
        if word in known:
            break
        text = without_quotes(without_lead_in(without_markup(text))).strip(_BRACKETS)
        text = _ANNOUNCED.sub("", _BULLET.sub("", text), count=1)
        word = _word(_without_emoji(text))
    if word not in known:
        return None
    rest = _word(said).replace(word, " ", 1)
    named = any(re.search(rf"(?<!\w){re.escape(_word(name))}(?!\w)", rest) for name in names)
    return None if named or _DENIES.search(rest) else known[word]


def blind_emotion(
    captioner: Captioner,
    sentence: str,
    names: Sequence[str],
    *,
    wording: Wording = PLAIN,
    attempts: int = 3,
    should_stop: Callable[[], bool] = lambda: False,
) -> str:
    """Which emotion the sentence alone would evoke: one of `names`, or "" where that is unclear.

    An answer that is no emotion's name is asked for again, `attempts` times in all.
    Raises: as `Captioner.answer`.
    """
    prompt = blind_prompt(sentence, names)
    for attempt in range(attempts):
        asked = later_wording(wording, attempt)
        answer = captioner.answer(None, prompt, asked, should_stop, lambda _count: None)
        if (found := parse_emotion(answer.text, names)) is not None:
            return found
    return ""


def blind_emotions(
    captioner: BatchCaptioner,
    sentences: Sequence[str],
    names: Sequence[str],
    *,
    wording: Wording = PLAIN,
    attempts: int = 3,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[str]:
    """As `blind_emotion` for a batch; what comes of it depends on the batch alone."""
    found: list[str | None] = [None] * len(sentences)
    prompts = [blind_prompt(sentence, names) for sentence in sentences]
    for attempt in range(attempts):
        left = [at for at, emotion in enumerate(found) if emotion is None]
        if not left:
            break
        asked = later_wording(wording, attempt)
        answers = captioner.answers([None] * len(left), [prompts[at] for at in left], asked, should_stop)
        for at, answer in zip(left, answers, strict=True):
            found[at] = parse_emotion(answer.text, names)
    return [emotion or "" for emotion in found]


def _from_json(text: str) -> str | None:
    """The value of {"emotion": "..."}; None for any other object, and other text as it is."""
    bare = re.sub(r"^```\w*\s*|\s*```$", "", text.strip())
    if not (bare.startswith("{") and bare.endswith("}")):
        return text
    try:
        pairs: Any = json.loads(bare, object_pairs_hook=list)  # as pairs, or a key twice would hide the first
    except (ValueError, RecursionError):
        return None
    if len(pairs) != 1 or not isinstance(pairs[0][1], str) or pairs[0][0].strip().casefold() not in _KEYS:
        return None
    return pairs[0][1]


def _without_emoji(text: str) -> str:
    """Without those at the end."""
    end = len(text)
    while end and (unicodedata.category(text[end - 1]) in ("So", "Sk") or text[end - 1] in "\ufe0f\u200d "):
        end -= 1
    return text[:end] or text


def _word(text: str) -> str:
    return " ".join(text.split()).lstrip(" .,;:").rstrip(" .!,;:").casefold()
