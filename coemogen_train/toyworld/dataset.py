"""The toy world's emotional data set: pictures by emotion, a sentence each, annotations, splits; as a table
on disk.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

from ..emotions import MIKELS, Emotion, Taxonomy
from ..files import atomic_write_text
from .captions import annotation, mistaken_sentence, sentence
from .narratives import ALL_NARRATIVES, Story
from .scenes import Scene, draw_scene, sample_stage
from .styles import Style, printer

MISTAKEN_SHARE = 0.1
"""Share of the training captions that tell a story which is not there: what the CLIP filter is for."""

KNOWN = Taxonomy("toy world", (*MIKELS.emotions, Emotion("nostalgia", "mixed")))
"""All emotions that have stories; nostalgia, bright in one picture and dim in the next, has a polarity of its
own.
"""


def toy_taxonomy(emotions: Sequence[str] | None = None) -> Taxonomy:
    """The taxonomy of a toy set: Mikels' eight, or the emotions named, in the order in which they are named.

    Raises:
        TaxonomyError: one has no stories, is named twice, or none is named.
    """
    if emotions is None or tuple(emotions) == MIKELS.names:
        return MIKELS
    return Taxonomy(KNOWN.name, tuple(KNOWN.emotions[KNOWN.index(name)] for name in emotions))


def story_scene(emotion: str, story: Story, rng: random.Random) -> Scene:
    """An emotional picture's scene: the light is its polarity's (mixed: either), the stage is anything."""
    polarity = KNOWN.emotions[KNOWN.index(emotion)].polarity
    bright = rng.random() < 0.5 if polarity == "mixed" else polarity == "positive"
    return sample_stage(story, bright, rng)


def write_toy_source(
    folder: Path,
    seed: int = 0,
    train_per_emotion: int = 200,
    test_per_emotion: int = 60,
    val_per_emotion: int = 0,
    style: Style = "plain",
    emotions: Sequence[str] | None = None,
) -> dict[str, int]:
    """Draw the data set: `<emotion>/<id>.png` and `samples.jsonl` with image, emotion, split, caption, scene,
    objects.

    The stories of an emotion are equally frequent. All that is random in a picture and its row hangs on the
    seed and its own id, so that neither another split nor another emotion changes a byte of it, and a scene
    is the same in every style.

    Args:
        emotions: those to draw; None: Mikels' eight. See `toy_taxonomy`.

    Returns:
        Counts: pictures, and captions that are mistaken on purpose.

    Raises:
        UserError: an emotion without stories, or a style that there is not.
    """
    printer(style)  # an unknown one is told before anything is written
    rows, mistaken = [], 0
    splits = {"train": train_per_emotion, "val": val_per_emotion, "test": test_per_emotion}
    for emotion in toy_taxonomy(emotions).names:
        stories = ALL_NARRATIVES[emotion]
        (folder / emotion).mkdir(parents=True, exist_ok=True)
        for split, count in splits.items():
            for number in range(count):
                identity = f"{emotion}_{split}_{number:04d}"
                rng = random.Random(f"{seed} {identity}")
                scene = story_scene(emotion, stories[number % len(stories)], rng)
                draw_scene(scene, rng, style).save(folder / emotion / f"{identity}.png")
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
