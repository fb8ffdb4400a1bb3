"""How a label is compared with the names of emotions: what is forgiven, and what would be a guess."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# One word each, in the forms that data sets use for it as a label; between words nothing is equated, however
# near their meaning: "happy" is not contentment. The four that are named by another word altogether (afraid,
# frightened, scared; awestruck) have no adjective of their own that people use.
_WORDS = (
    "acceptance accepting",
    "admiration admiring",
    "alarmed alarm",
    "amazement amazed",
    "amusement amused amusing",
    "anger angry angered",
    "annoyance annoyed annoying",
    "anticipation anticipating",
    "anxiety anxious",
    "apprehension apprehensive",
    "aroused arousal",
    "awe awed awestruck inawe",
    "boredom bored boring",
    "calm calmness",
    "contentment content contented contentedness",
    "disgust disgusted disgusting",
    "distraction distracted",
    "ecstasy ecstatic",
    "excitement excited exciting",
    "fear fearful afraid frightened scared",
    "frustration frustrated frustrating",
    "glad gladness",
    "gratitude grateful",
    "grief grieving",
    "happiness happy",
    "hope hopeful",
    "interest interested",
    "joy joyful joyous",
    "loathing loathe",
    "loneliness lonely",
    "melancholy melancholic",
    "neutral neutrality",
    "nostalgia nostalgic",
    "pensiveness pensive",
    "pride proud",
    "rage raging enraged",
    "safety safe",
    "sadness sad saddened",
    "serenity serene",
    "shame ashamed",
    "surprise surprised surprising",
    "tension tense",
    "terror terrified terrifying",
    "tired tiredness",
    "trust trusting",
    "vigilance vigilant",
)
_FORMS = {form: frozenset(word.split()) for word in _WORDS for form in word.split()}

# In shorter words a slip makes another word: tired, tried; excited, exited; anger, angler; neutral, neural.
_MIN_DOUBLED = 5
_MIN_SWAPPED = 7
_MIN_WRONG = 9


def plain(name: str) -> str:
    """A name without case, spaces, underscores and hyphens, its umlauts composed: the form in which two
    spellings are compared."""
    # A Mac's folders come decomposed, and folding the case may take apart what was composed.
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    return re.sub(r"[\s_\-]+", "", folded)


def forgiven(wanted: str, known: Sequence[str]) -> str | None:
    """The one of `known` that `wanted` means in another form or with one slip; both are `plain` spellings.

    A slip is a letter doubled or a double one halved; in longer words also two neighbours that changed
    places; in still longer ones a letter that is wrong, left out or added. Never the first, so that danger
    is not anger and unhappy not happy. Where two are meant, or none, the answer is None.
    """
    forms = _FORMS.get(wanted, frozenset())
    meant = [name for name in known if name in forms]
    if not meant:
        meant = [name for name in known if _is_slip(wanted, name)]
    return meant[0] if len(meant) == 1 else None


def _is_slip(written: str, name: str) -> bool:
    """Whether `written` is `name` with exactly one slip that is forgiven in a word of its length."""
    if abs(len(written) - len(name)) > 1 or written == name or written[:1] != name[:1]:
        return False
    place = next((i for i, (a, b) in enumerate(zip(written, name, strict=False)) if a != b), None)
    if place is None:  # one is the beginning of the other
        place = min(len(written), len(name))
    rest_written, rest_name = written[place:], name[place:]
    if len(written) != len(name):
        longer, shorter = sorted((rest_written, rest_name), key=len, reverse=True)
        if longer[1:] != shorter:
            return False
        is_doubled = longer[0] == written[place - 1] and not re.fullmatch(r".(ed|ing)", longer)
        return len(name) >= (_MIN_DOUBLED if is_doubled else _MIN_WRONG)
    if rest_written[1:] == rest_name[1:]:
        return len(name) >= _MIN_WRONG
    is_swapped = rest_written[:2] == rest_name[1::-1] and rest_written[2:] == rest_name[2:]
    return is_swapped and len(name) >= _MIN_SWAPPED
