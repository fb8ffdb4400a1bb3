"""What a model is asked (METHOD: captions): one sentence on what in the picture evokes the emotion.

The paper gives the model the emotion as prior knowledge and six points of attention; the words are ours.
Whoever changes a word changes `PROMPT_VERSION` too, since it is stored beside every caption.
"""

from __future__ import annotations

from ..errors import CaptionError

PROMPT_VERSION = "1"
POINTS_OF_ATTENTION = (
    "brightness",
    "colours",
    "the scene",
    "objects",
    "facial expressions",
    "human actions",
)
# A mixture of all eight emotions, said as a sentence says them, has 72 characters.
MAX_EMOTION_LENGTH = 200
MAX_EMOTIONS_NAMED = 4096

_PROMPT = (
    "People who see this picture feel {emotion}. Find out what in the picture makes them feel so, and "
    "consider in turn: {points}. Then write one English sentence of at most 40 words that describes what is "
    "seen, above all what gives rise to {emotion}, and passes over whatever is not there. Show it, and let "
    "the reader feel it: words such as 'a woman looking sad' or 'a laughing child' are welcome, but say "
    "nothing about the picture itself or its effect, neither 'a sad picture' nor 'this evokes sadness'. "
    "Answer with that sentence alone, without a title, a list or quotation marks."
)


def caption_prompt(emotion: str) -> str:
    """The request that goes with a picture.

    emotion: as `plain_emotion` takes it. Raises: CaptionError where it is empty.
    """
    named = plain_emotion(emotion)
    if not named:
        raise CaptionError(
            "the picture's emotion is empty: name the emotion that it should evoke, such as 'awe'."
        )
    return _PROMPT.format(emotion=named, points=", ".join(POINTS_OF_ATTENTION))


def plain_emotion(text: str) -> str:
    """An emotion from anywhere on one line of at most MAX_EMOTION_LENGTH printable characters, maybe none."""
    start = text[: 10 * MAX_EMOTION_LENGTH]
    printable = "".join(letter if letter.isprintable() else " " for letter in start)
    return " ".join(printable.split())[:MAX_EMOTION_LENGTH].strip()


def emotions_of(text: str) -> tuple[str, ...]:
    """The emotions of a batch, one per picture, from "awe; fear"; line breaks separate them as well.

    Raises: CaptionError where the text names none, or more than MAX_EMOTIONS_NAMED.
    """
    parts = text.replace("\n", ";").split(";", MAX_EMOTIONS_NAMED)
    if len(parts) > MAX_EMOTIONS_NAMED:
        raise CaptionError(
            f"the emotion field names more than {MAX_EMOTIONS_NAMED} emotions: name one per picture."
        )
    named = tuple(filter(None, map(plain_emotion, parts)))
    if not named:
        raise CaptionError("the emotion field is empty: name the emotion of the picture, such as 'awe'.")
    return named
