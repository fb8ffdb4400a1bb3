"""The toy world is drawn as promised: repeatable, and its polarity shows in light and colour alone."""

from __future__ import annotations

import random

import numpy as np
import pytest

from coemogen_train.toyworld.cast import OBJECTS
from coemogen_train.toyworld.narratives import EMOTION_OF, NARRATIVES
from coemogen_train.toyworld.relations import RELATIONS
from coemogen_train.toyworld.scenes import Scene, draw_scene, sample_any_story, sample_stage


def drawn(scene: Scene, seed: int) -> np.ndarray:
    return np.asarray(draw_scene(scene, random.Random(seed))).astype(float)


def saturation(pixels: np.ndarray) -> float:
    return float((pixels.max(axis=2) - pixels.min(axis=2)).mean())


def test_same_seed_same_picture() -> None:
    scene = sample_stage(next(iter(EMOTION_OF)), True, random.Random(0))
    assert np.array_equal(drawn(scene, 3), drawn(scene, 3))
    assert not np.array_equal(drawn(scene, 3), drawn(scene, 4))


@pytest.mark.parametrize("story", EMOTION_OF, ids=str)
def test_light_is_the_only_difference_of_polarity(story) -> None:
    bright = drawn(Scene(story, "meadow", "clear", True), 0)
    dim = drawn(Scene(story, "meadow", "clear", False), 0)
    assert dim.mean() < bright.mean()
    assert saturation(dim) < 0.7 * saturation(bright)
    # What is drawn is the same: brightness rises and falls together over the picture.
    assert np.corrcoef(bright.mean(axis=2).ravel(), dim.mean(axis=2).ravel())[0, 1] > 0.9


def test_stories_of_an_emotion_look_different() -> None:
    for stories in NARRATIVES.values():
        pictures = [drawn(Scene(story, "beach", "clear", True), 0) for story in stories]
        for i, first in enumerate(pictures):
            for second in pictures[i + 1 :]:
                assert np.abs(first - second).mean() > 3


def test_the_broader_world_can_be_drawn() -> None:
    rng = random.Random(1)
    seen = set()
    for _ in range(600):
        story = sample_any_story(rng)
        seen.add(story.relation)
        assert drawn(sample_stage(story, True, rng), 0).shape == (64, 64, 3)
    assert seen == set(RELATIONS)


def test_narratives_use_the_cast() -> None:
    assert all(story.objects <= set(OBJECTS) and story.relation in RELATIONS for story in EMOTION_OF)
    assert {len(stories) for stories in NARRATIVES.values()} == {6}
    assert len(EMOTION_OF) == 48  # no story belongs to two emotions
