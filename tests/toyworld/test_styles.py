"""A woodcut shows the same scene in other means: read alike, lit alike, and far away for CLIP."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import coemogen_train.toyworld as toyworld
from coemogen_train.base.vision import load_vision
from coemogen_train.evaluate import frechet_distance
from coemogen_train.toyworld.dataset import story_scene
from coemogen_train.toyworld.narratives import NARRATIVES, Story
from coemogen_train.toyworld.recogniser import load_recogniser
from coemogen_train.toyworld.scenes import Scene, draw_scene
from coemogen_train.toyworld.styles import STYLES, woodcut

WEIGHTS = Path(toyworld.__file__).parent / "weights"


def scenes(style: str, each: int = 12, tale: str = "") -> tuple[list[Image.Image], list[Story], list[str]]:
    pictures, stories, emotions = [], [], []
    for emotion, told in NARRATIVES.items():
        for number in range(each):
            rng = random.Random(f"{emotion} {number} {tale}")
            scene = story_scene(emotion, told[number % 6], rng)
            pictures.append(draw_scene(scene, rng, style))
            stories.append(scene.story)
            emotions.append(emotion)
    return pictures, stories, emotions


@pytest.fixture(scope="module")
def drawn() -> dict[str, tuple[list[Image.Image], list[Story], list[str]]]:
    return {style: scenes(style) for style in STYLES}


def test_a_woodcut_is_a_function_of_the_picture_alone(drawn) -> None:
    again, _, _ = scenes("woodcut", each=1)
    first = drawn["woodcut"][0][::12]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_woodcut_has_few_tones_dark_contours_and_a_tinted_paper() -> None:
    picture = Image.new("RGB", (64, 64), (250, 250, 250))
    picture.paste((120, 120, 120), (16, 16, 48, 48))
    printed = np.asarray(woodcut(picture)).astype(int)
    assert len(np.unique(printed.reshape(-1, 3), axis=0)) <= 3  # paper, ink, a tone
    assert printed[32, 16].max() < 60 < printed[32, 30].max()  # the contour of the square, and its inside
    red, _, blue = printed[5, 5]
    assert red > blue + 30


def test_the_story_can_still_be_read(drawn) -> None:
    pictures, stories, _ = drawn["woodcut"]
    read = load_recogniser(WEIGHTS / "recogniser.safetensors").read_stories(pictures)
    assert np.mean([a == b for a, b in zip(read, stories, strict=True)]) >= 0.9  # it never saw a woodcut


@pytest.mark.parametrize("style", STYLES)
def test_light_still_tells_the_polarity(style: str) -> None:
    story = NARRATIVES["fear"][0]
    bright, dim = (
        np.asarray(draw_scene(Scene(story, "meadow", "clear", lit), random.Random(0), style)).astype(float)
        for lit in (True, False)
    )
    assert dim.mean() < 0.85 * bright.mean()
    assert np.ptp(dim, axis=2).mean() < 0.7 * np.ptp(bright, axis=2).mean()


def test_clip_sees_another_style_as_other_pictures_altogether(drawn) -> None:
    """By the distance to other plain pictures of the same stories, on other stages."""
    clip = load_vision("toy")
    plain, printed, other = (
        clip.encode_images(pictures).numpy()
        for pictures in (drawn["plain"][0], drawn["woodcut"][0], scenes("plain", tale="again")[0])
    )
    assert frechet_distance(plain, printed) > 5 * frechet_distance(plain, other)
