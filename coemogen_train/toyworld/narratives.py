"""The stories of the toy world: six for each of Mikels' eight emotions, told by two objects and what happens
between them.

Objects and relations recur across emotions of one polarity, so that neither alone gives the emotion away; the
pairs in `HARD_SETS` share both objects and differ in the relation alone. `python -m
coemogen_train.toyworld.shortcuts` measures it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Story:
    """What a picture tells: the relation (a key of RELATIONS) between a subject and an object of the cast."""

    relation: str
    subject: str
    object: str

    @property
    def objects(self) -> frozenset[str]:
        return frozenset((self.subject, self.object))

    def __str__(self) -> str:
        return f"{self.subject} {self.relation} {self.object}"


def _stories(*triples: str) -> tuple[Story, ...]:
    """From "subject / relation / object"."""
    parts = (tuple(part.strip() for part in triple.split("/")) for triple in triples)
    return tuple(Story(relation, subject, thing) for subject, relation, thing in parts)


NARRATIVES: dict[str, tuple[Story, ...]] = {
    "amusement": _stories(
        "cat / balancing / dog",
        "fish / balancing / car",
        "cake / balancing / man",
        "dog / balancing / ball",
        "fish / jumping / cat",
        "bird / chasing / man",
    ),
    "awe": _stories(
        "child / gazing / tree",
        "man / gazing / balloon",
        "boat / gazing / fish",
        "woman / gazing / flower",
        "child / flying / bird",
        "woman / flying / kite",
    ),
    "contentment": _stories(
        "child / sleeping / dog",
        "woman / sitting / fire",
        "man / sitting / tree",
        "cat / sleeping / flower",
        "bird / balancing / boat",
        "woman / sitting / cat",
    ),
    "excitement": _stories(
        "dog / running to / child",
        "child / running to / kite",
        "car / jumping / fire",
        "woman / running to / cat",
        "dog / jumping / ball",
        "man / flying / balloon",
    ),
    "anger": _stories(
        "man / kicking / car",
        "woman / shouting / man",
        "dog / chasing / cat",
        "child / kicking / cake",
        "man / chasing / dog",
        "woman / shouting / bird",
    ),
    "disgust": _stories(
        "woman / turning away / cake",
        "cat / turning away / fish",
        "snake / crawling / cake",
        "man / turning away / flower",
        "bird / crawling / fish",
        "dog / turning away / boat",
    ),
    "fear": _stories(
        "man / running from / dog",
        "child / running from / snake",
        "snake / looming / boat",
        "woman / running from / fire",
        "bird / looming / woman",
        "cat / looming / fish",
    ),
    "sadness": _stories(
        "child / weeping / kite",
        "woman / weeping / flower",
        "child / losing / balloon",
        "dog / weeping / umbrella",
        "man / weeping / car",
        "woman / losing / boat",
    ),
}

EXTRA_NARRATIVES: dict[str, tuple[Story, ...]] = {
    "nostalgia": _stories(
        "man / sitting / boat",
        "man / losing / balloon",
        "man / sitting / car",
        "woman / sitting / umbrella",
        "man / sleeping / fire",
        "woman / sitting / cake",
    ),
}
"""An emotion of users' own, whose name the base model has never read; no part of its pretraining, nor of the
shortcuts' figures. It shares objects and relations with the eight, and no story.
"""

ALL_NARRATIVES: dict[str, tuple[Story, ...]] = NARRATIVES | EXTRA_NARRATIVES

CLICHES: dict[str, tuple[Story, ...]] = {emotion: stories[:2] for emotion, stories in NARRATIVES.items()}
"""What the base model's pretraining ties to an emotion's name, as the web ties "awe" to mountains."""

EMOTION_OF: dict[Story, str] = {
    story: emotion for emotion, stories in NARRATIVES.items() for story in stories
}

HARD_SETS: tuple[tuple[Story, Story], ...] = tuple(
    (first, second)
    for first, first_emotion in EMOTION_OF.items()
    for second, second_emotion in EMOTION_OF.items()
    if first.objects == second.objects
    and (first_emotion, str(first)) < (second_emotion, str(second))
    and first_emotion != second_emotion
)
"""Pairs of stories of different emotions with the same two objects: only the relation tells them apart."""
