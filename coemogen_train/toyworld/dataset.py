"""The toy world's emotional data set: pictures by emotion, a sentence each, annotations, splits; as a table
on disk.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from ..files import atomic_write_text
from .captions import annotation, mistaken_sentence, sentence
from .narratives import NARRATIVES, Story
from .scenes import Scene, draw_scene, sample_stage

MISTAKEN_SHARE = 0.1
"""Share of the training captions that tell a story which is not there: what the CLIP filter is for."""


def story_scene(emotion: str, story: Story, rng: random.Random) -> Scene:
    """An emotional picture's scene: the light is its polarity's, the stage is anything."""
    positive = emotion in tuple(NARRATIVES)[:4]
    return sample_stage(story, positive, rng)


def write_toy_source(
    folder: Path, seed: int = 0, train_per_emotion: int = 200, test_per_emotion: int = 60
) -> dict[str, int]:
    """Draw the data set: `<emotion>/<id>.png` and `samples.jsonl` with image, emotion, split, caption, scene,
    objects.

    The stories of an emotion are equally frequent. Returns counts: pictures, and captions that are mistaken
    on purpose.
    """
    rows, mistaken = [], 0
    for emotion, stories in NARRATIVES.items():
        (folder / emotion).mkdir(parents=True, exist_ok=True)
        for split, count in (("train", train_per_emotion), ("test", test_per_emotion)):
            for number in range(count):
                identity = f"{emotion}_{split}_{number:04d}"
                rng = random.Random(f"{seed} {identity}")
                scene = story_scene(emotion, stories[number % len(stories)], rng)
                draw_scene(scene, rng).save(folder / emotion / f"{identity}.png")
                wrong = split == "train" and rng.random() < MISTAKEN_SHARE
                mistaken += wrong
                rows.append(_row(identity, emotion, split, scene, wrong, rng))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    atomic_write_text(folder / "samples.jsonl", text)
    return {"pictures": len(rows), "mistaken_captions": mistaken}


def _row(
    identity: str, emotion: str, split: str, scene: Scene, wrong: bool, rng: random.Random
) -> dict[str, object]:
    notes = annotation(scene, emotion)
    return {
        "id": identity,
        "image": f"{emotion}/{identity}.png",
        "emotion": emotion,
        "split": split,
        "caption": mistaken_sentence(scene, rng) if wrong else sentence(scene, rng),
        "scene": notes["scene"],
        "objects": notes["object"],
        "action": notes["human_action"],
        "brightness": notes["brightness"],
        "colorfulness": notes["colorfulness"],
        "mistaken": wrong,
    }
