"""The bundled weights do what the demo relies on: small, readable, and fluent in the toy world."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import coemogen_train.toyworld as toyworld
from coemogen_train.base.generate import encode_prompts
from coemogen_train.base.load import load_base
from coemogen_train.base.sampling import SamplingSettings, generate_images
from coemogen_train.base.vision import load_vision
from coemogen_train.toyworld.captions import sentence
from coemogen_train.toyworld.narratives import EMOTION_OF
from coemogen_train.toyworld.recogniser import StoryRecogniser, load_recogniser
from coemogen_train.toyworld.scenes import draw_scene, sample_stage

WEIGHTS = Path(toyworld.__file__).parent / "weights"
STORIES = tuple(EMOTION_OF)


@pytest.fixture(scope="module")
def recogniser() -> StoryRecogniser:
    return load_recogniser(WEIGHTS / "recogniser.safetensors")


def test_small_enough_to_ship_with_the_log_of_their_making() -> None:
    assert sum(file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file()) <= 12_000_000
    assert "unet: step" in (WEIGHTS / "pretraining_log.txt").read_text(encoding="utf-8")


def test_recogniser_reads_drawn_stories_and_refuses_others(recogniser: StoryRecogniser) -> None:
    rng = random.Random(7)
    pictures = [draw_scene(sample_stage(story, rng.random() < 0.5, rng), rng) for story in STORIES]
    read = recogniser.read_stories(pictures)
    assert sum(a == b for a, b in zip(read, STORIES, strict=True)) >= 44
    upside_down = [picture.rotate(180) for picture in pictures]
    wrong = recogniser.read_stories(upside_down)
    assert sum(a == b for a, b in zip(wrong, STORIES, strict=True)) <= 16


def test_clip_matches_pictures_and_sentences() -> None:
    rng = random.Random(3)
    scenes = [sample_stage(story, rng.random() < 0.5, rng) for story in STORIES]
    clip = load_vision("toy")
    images = clip.encode_images([draw_scene(scene, rng) for scene in scenes])
    texts = clip.encode_texts([sentence(scene, rng) for scene in scenes])
    cosine = (images / images.norm(dim=1, keepdim=True)) @ (texts / texts.norm(dim=1, keepdim=True)).T
    assert (cosine.argmax(dim=1).numpy() == range(len(scenes))).mean() >= 0.75


@pytest.mark.slow
def test_base_draws_what_a_sentence_says(recogniser: StoryRecogniser) -> None:
    rng = random.Random(5)
    base = load_base("toy")
    stories = STORIES[::2]
    embeds = encode_prompts(base, [sentence(sample_stage(story, True, rng), rng) for story in stories])
    settings = SamplingSettings(steps=20, guidance=3.0, batch_size=24)
    pictures = generate_images(base, embeds, encode_prompts(base, [""]), range(len(stories)), settings)
    told = [a == b for a, b in zip(recogniser.read_stories(pictures), stories, strict=True)]
    assert sum(told) >= len(stories) / 2
