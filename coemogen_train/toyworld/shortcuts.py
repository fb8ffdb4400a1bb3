"""How far the toy world's emotions could be guessed without reading the story: exact Bayes accuracies.

`python -m coemogen_train.toyworld.shortcuts` prints them. Emotions and their narratives are equally likely.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from fractions import Fraction

from ..emotions import MIKELS
from .narratives import EMOTION_OF, HARD_SETS, NARRATIVES, Story
from .scenes import BACKGROUNDS, WEATHERS

Clue = Callable[[str, Story], Iterable[Hashable]]
"""From an emotion and a story to the equally likely things that a guesser may see of a picture."""


def bayes_accuracy(clue: Clue) -> float:
    """Share of pictures whose emotion the best guesser names from the clue alone, of 1."""
    joint: dict[Hashable, dict[str, Fraction]] = defaultdict(lambda: defaultdict(Fraction))
    for emotion, stories in NARRATIVES.items():
        for story in stories:
            seen = tuple(clue(emotion, story))
            for value in seen:
                joint[value][emotion] += Fraction(1, len(NARRATIVES) * len(stories) * len(seen))
    return float(sum(max(by_emotion.values()) for by_emotion in joint.values()))


def _polarity(emotion: str) -> str:
    return MIKELS.emotions[MIKELS.index(emotion)].polarity


CLUES: dict[str, Clue] = {
    "all but the story (background, weather, light)": lambda e, s: (
        (_polarity(e), background, weather) for background in BACKGROUNDS for weather in WEATHERS
    ),
    "one object and the light": lambda e, s: ((_polarity(e), name) for name in (s.subject, s.object)),
    "what happens and the light": lambda e, s: ((_polarity(e), s.relation),),
    "both objects and the light": lambda e, s: ((_polarity(e), s.objects),),
    "both objects, without the light": lambda e, s: (s.objects,),
    "the sentence": lambda e, s: (s,),
}


def shortcut_accuracies() -> dict[str, float]:
    """Each clue's Bayes accuracy, from the least telling to the sentence."""
    return {name: bayes_accuracy(clue) for name, clue in CLUES.items()}


def hard_stories() -> frozenset[Story]:
    """Stories with a twin of another emotion of the same polarity that shares both objects."""
    same_light = [pair for pair in HARD_SETS if len({_polarity(EMOTION_OF[story]) for story in pair}) == 1]
    return frozenset(story for pair in same_light for story in pair)


if __name__ == "__main__":
    for name, accuracy in shortcut_accuracies().items():
        print(f"{name:50s} {accuracy:.3f}")
    print(f"stories whose relation alone tells them from a twin: {len(hard_stories())} of {len(EMOTION_OF)}")
