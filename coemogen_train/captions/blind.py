"""The blind second pass: which emotion would a sentence evoke, asked of a model that sees nothing else.

Where it says another emotion than the picture's label, the caption may have reasoned wrongly (the paper's
own first limitation). Whoever changes a word of the request changes `BLIND_VERSION` too, since it is stored
beside every judgement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .caption import PLAIN, BatchCaptioner, Captioner, Wording, later_wording
from .cleaning import MAX_ANSWER
from .unwrap import plain_characters, without_lead_in, without_markup, without_quotes, without_reasoning

BLIND_VERSION = "1"
_NONE = "none"
_PROMPT = (
    'This sentence describes a picture: "{sentence}" Which of these emotions would the picture evoke in the '
    "people who see it: {names}? Answer with one of these words alone, exactly as it is written here, or "
    "with 'none' if the sentence does not tell."
)


def blind_prompt(sentence: str, names: Sequence[str]) -> str:
    """The request. names: the emotions of the taxonomy, in its order."""
    return _PROMPT.format(sentence=" ".join(sentence.split()), names=", ".join(names))


def parse_emotion(raw: str, names: Sequence[str]) -> str | None:
    """The emotion that an answer names, "" where it says none, None for any answer but one of these words."""
    text, _ = without_reasoning(plain_characters(raw[:MAX_ANSWER]))
    word = _word(without_quotes(without_lead_in(without_markup(text))))
    return {_NONE: "", **{_word(name): name for name in names}}.get(word)


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


def _word(text: str) -> str:
    return " ".join(text.split()).strip(" .!,;:").casefold()
