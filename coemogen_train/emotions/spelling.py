"""How a label is compared with the names of emotions: what is forgiven, and what would be a guess."""

from __future__ import annotations

import re
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

# In shorter words one letter makes another word: fear, year; awe, owe.
_MIN_LENGTH = 5
# And up to here another letter in place of one still does: anger, angel.
_MIN_LENGTH_REPLACED = 7


def plain(name: str) -> str:
    """A name without case, spaces, underscores and hyphens: the form in which two spellings are compared."""
    return re.sub(r"[\s_\-]+", "", name).casefold()


def forgiven(wanted: str, known: Sequence[str]) -> str | None:
    """The one of `known` that `wanted` means in another form or with one slip; both are `plain` spellings.

    A slip is a letter left out, doubled or added, two that changed places, or, in longer words, a wrong one;
    never the first, so that danger is not anger and unhappy not happy. Where two are meant, or none, the
    answer is None.
    """
    forms = _FORMS.get(wanted, frozenset())
    meant = [name for name in known if name in forms]
    if not meant:
        meant = [name for name in known if _is_slip(wanted, name)]
    return meant[0] if len(meant) == 1 else None


def _is_slip(written: str, name: str) -> bool:
    """Whether `written` is `name` with exactly one slip (a Damerau-Levenshtein distance of 1)."""
    if min(len(written), len(name)) < _MIN_LENGTH or abs(len(written) - len(name)) > 1:
        return False
    if written[0] != name[0] or written == name:
        return False
    place = next((i for i, (a, b) in enumerate(zip(written, name, strict=False)) if a != b), None)
    if place is None:  # one is the beginning of the other
        return True
    rest_written, rest_name = written[place:], name[place:]
    if len(written) > len(name):
        return rest_written[1:] == rest_name
    if len(written) < len(name):
        return rest_written == rest_name[1:]
    if rest_written[1:] == rest_name[1:]:
        return len(name) >= _MIN_LENGTH_REPLACED
    return rest_written[:2] == rest_name[1::-1] and rest_written[2:] == rest_name[2:]
