"""From what a model answered to a caption, or to the names of what is wrong with the answer.

What can be taken off without touching the sentence is taken off: reasoning, markup, "Caption:", quotation
marks, further sentences. What cannot is a fault, and the picture is asked about again.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from .sentences import MAX_LENGTH, ends, faults_of, items_of, sentences_of, without_bullet, without_count
from .unwrap import (
    plain_characters,
    without_frame,
    without_lead_in,
    without_long_runs,
    without_markup,
    without_quotes,
    without_reasoning,
)
from .verdicts import pronounces

# More than any answer to the prompt; whatever comes after it is not read.
MAX_ANSWER = 20_000
# A sentence beyond this is no caption with a fault, it is none.
_LONGEST_KEPT = 4 * MAX_LENGTH
FAULTS = {
    "verdict": "it pronounces on the picture instead of showing it",
    "too_long": "it is too long",
    "unfinished": "it breaks off",
    "markup": "it holds markup",
    "list": "it is a list",
    "too_short": "it is too short",
    "language": "it is not in English",
    "repetition": "it repeats itself",
    "reasoning": "it reasons without end",
    "refusal": "it is a refusal",
    "empty": "it is empty",
}
"""The names of what an answer can lack, the mildest first, and how a sentence says them."""

_REFUSAL = re.compile(
    r"^[\W_]*(?:(?:oh|hmm|well|unfortunately|regrettably),?\s+)?(?:"
    r"(?:i'?m|i am)\s+(?:really\s+|very\s+|so\s+)?(?:sorry|afraid|unable|not able|not comfortable)\b|"
    r"(?:i|we)\s+(?:can(?:no|')?t|can not|could(?:n't| not)|won't|will not|must decline|"
    r"do(?:n't| not) (?:see|have|feel)|am not|apologi[sz]e)\b|"
    r"(?:sorry|apologies|my apologies)\b[,.!:]|as an? (?:ai|language model|artificial)|"
    r"(?:this|the) (?:image|picture|content|request) (?:can(?:no|')t|(?:may )?violates?|is not appropriate)|"
    r"(?:there is|there's) no (?:image|picture)|"
    r"no (?:image|picture) (?:was|is|has been|provided|attached|uploaded)|"
    r"(?:could you )?please (?:provide|upload|share|attach|send)|"
    r"it (?:looks|seems|appears) (?:like|that) (?:you|the|no|there)\b[^.]{0,60}\b"
    r"(?:image|picture|upload|attach)"
    r")",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class CleanedAnswer:
    """An answer made plain.

    text: the caption, or the best that could be had of it; "" where there is nothing.
    faults: keys of FAULTS, () for a caption that can be used. mended: what was taken off, for the record:
    reasoning, markup, lead_in, quotes, several_sentences.
    """

    text: str
    faults: tuple[str, ...] = ()
    mended: tuple[str, ...] = ()

    @property
    def severity(self) -> int:
        """How far this is from a caption, 0 for one; where no answer is clean, the least is the best."""
        if not self.text:
            return 1000
        return sum(list(FAULTS).index(fault) + 1 for fault in self.faults)


def clean_answer(raw: str, emotion: str = "", cut_off: bool = False) -> CleanedAnswer:
    """Make a caption of an answer.

    raw: what the model wrote, of any length and content. emotion: the words it was told, to find verdicts by.
    cut_off: the model was stopped at its limit of tokens.
    """
    mended: list[str] = []
    plain = plain_characters(raw[:MAX_ANSWER])
    text, endless = without_reasoning(plain)
    if text != plain:
        mended.append("reasoning")
    if not text:
        return CleanedAnswer("", ("reasoning" if endless else "empty",), tuple(mended))
    text = _unwrapped(text, mended)
    if _REFUSAL.match(text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")[:300]):
        return CleanedAnswer("", ("refusal",), tuple(mended))
    lines = [line.strip() for line in text.split("\n") if any(map(str.isalnum, line))]
    while len(lines) > 1 and lines[0].endswith(":"):
        mended.append("lead_in")
        lines.pop(0)
    items = items_of(lines)
    if not items:
        lines = [without_bullet(line) for line in lines]
    return _best_sentence(sentences_of(items or lines), bool(items), emotion, cut_off, mended)


def _unwrapped(text: str, mended: list[str]) -> str:
    """The answer without markup, lead-in and quotation marks, in whatever order these are nested."""
    for _ in range(3):
        before = text
        for name, unwrap in (
            ("markup", without_markup),
            ("markup", _without_emoji),
            ("lead_in", without_lead_in),
            ("quotes", without_quotes),
        ):
            bare = unwrap(text)
            if bare != text and name not in mended and "".join(bare.split()) != "".join(text.split()):
                mended.append(name)
            text = without_long_runs(bare)
        if text == before:
            break
    return text


def _best_sentence(
    sentences: list[str], is_list: bool, emotion: str, cut_off: bool, mended: list[str]
) -> CleanedAnswer:
    """The first sentence that can stand as a caption, else the one nearest to it."""
    found: list[CleanedAnswer] = []
    for position, sentence in enumerate(sentences):
        cut_here = cut_off and position == len(sentences) - 1
        plain = without_quotes(sentence)
        whole = without_quotes(without_count(plain))
        # "The image captures the joy of ..." is a verdict, which must not pass for want of its subject.
        bare = whole if pronounces(whole, emotion) else without_quotes(without_frame(whole))
        if not any(map(str.isalpha, bare)):
            continue
        taken = {
            "quotes": plain != sentence,
            "lead_in": bare != whole,
            "several_sentences": len(sentences) > 1,
        }
        notes = dict.fromkeys((*mended, *(name for name, is_so in taken.items() if is_so)))
        faults = faults_of(bare, emotion, cut_here)
        if not ends(bare) and "unfinished" not in faults:
            bare = bare.rstrip(" ,;:-") + "."
        if len(bare) > _LONGEST_KEPT:
            bare = ""
        found.append(CleanedAnswer(bare, ("list", *faults) if is_list else faults, tuple(notes)))
        if not found[-1].faults:
            return found[-1]
    nothing = CleanedAnswer("", ("empty",), tuple(mended))
    return min(found or [nothing], key=lambda answer: answer.severity)


def _without_emoji(text: str) -> str:
    kept = "".join(letter for letter in text if unicodedata.category(letter) != "So" and letter != "\ufe0f")
    return re.sub(r" +([.!?])", r"\1", without_long_runs(kept)).strip() or text
