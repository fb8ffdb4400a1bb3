"""Winning in the toy world means something: the emotion cannot be guessed without reading the story."""

from __future__ import annotations

import random
from collections import Counter

from coemogen_train.toyworld.narratives import CLICHES, EMOTION_OF, HARD_SETS, NARRATIVES
from coemogen_train.toyworld.scenes import sample_stage
from coemogen_train.toyworld.shortcuts import bayes_accuracy, hard_stories, shortcut_accuracies


def test_everything_but_the_story_tells_little() -> None:
    accuracies = shortcut_accuracies()
    assert accuracies["all but the story (background, weather, light)"] <= 0.35
    assert accuracies["the sentence"] == 1.0
    assert accuracies["one object and the light"] < accuracies["both objects and the light"] < 1.0


def test_bayes_accuracy_equals_a_count_of_drawn_pictures() -> None:
    """The same figure from samples: the best guess per clue, counted."""
    rng = random.Random(0)
    counts: Counter[tuple[object, str]] = Counter()
    for _ in range(40_000):
        emotion = rng.choice(tuple(NARRATIVES))
        story = rng.choice(NARRATIVES[emotion])
        counts[rng.choice((story.subject, story.object)), emotion] += 1
    best = Counter[object]()
    for (clue, _), count in counts.items():
        best[clue] = max(best[clue], count)
    exact = bayes_accuracy(lambda _, story: (story.subject, story.object))
    assert abs(best.total() / 40_000 - exact) < 0.01


def test_stage_is_independent_of_the_story() -> None:
    rng = random.Random(0)
    for story in (NARRATIVES["awe"][0], NARRATIVES["fear"][0]):
        stages = Counter(
            (s.background, s.weather) for s in (sample_stage(story, True, rng) for _ in range(4000))
        )
        assert len(stages) == 20
        assert min(stages.values()) > 0.6 * 4000 / 20


def test_two_pairs_of_emotions_differ_in_relation_alone() -> None:
    for first, second in HARD_SETS:
        assert first.objects == second.objects
        assert first.relation != second.relation or first.subject != second.subject
        assert EMOTION_OF[first] != EMOTION_OF[second]
    assert len({frozenset((EMOTION_OF[a], EMOTION_OF[b])) for a, b in HARD_SETS}) >= 2
    assert len(hard_stories()) >= 4


def test_a_name_has_at_most_two_cliches() -> None:
    assert all(len(stories) == 2 and set(stories) < set(NARRATIVES[e]) for e, stories in CLICHES.items())
