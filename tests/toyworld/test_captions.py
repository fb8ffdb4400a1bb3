"""Sentences show and never name; annotations have EmoSet's keys; the base's world ties names to cliches."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

from PIL import Image

from coemogen_train.emotions import MIKELS
from coemogen_train.toyworld.captions import annotation, mistaken_sentence, sample_pretraining_pair, sentence
from coemogen_train.toyworld.dataset import write_toy_source
from coemogen_train.toyworld.narratives import CLICHES, EMOTION_OF, NARRATIVES
from coemogen_train.toyworld.scenes import sample_stage


def test_sentences_never_name_an_emotion() -> None:
    rng = random.Random(0)
    for story in EMOTION_OF:
        for _ in range(20):
            words = sentence(sample_stage(story, True, rng), rng).replace(",", "").split()
            assert not set(words) & {*MIKELS.names, "evokes", "feeling", "sad", "happy", "afraid", "angry"}
            assert story.subject in words and story.object in words


def test_mistaken_sentences_tell_another_story() -> None:
    rng = random.Random(0)
    for story in EMOTION_OF:
        scene = sample_stage(story, True, rng)
        assert not set(mistaken_sentence(scene, rng).split()) & story.objects


def test_annotation_has_the_keys_of_emoset() -> None:
    scene = sample_stage(NARRATIVES["awe"][0], True, random.Random(0))
    notes = annotation(scene, "awe")
    assert set(notes) == {"emotion", "brightness", "colorfulness", "scene", "human_action", "object"}
    assert notes["object"] == ["child", "tree"]


def test_names_in_pretraining_mostly_show_a_cliche() -> None:
    rng = random.Random(0)
    shown: Counter[bool] = Counter()
    named = 0
    for _ in range(8000):
        scene, caption = sample_pretraining_pair(rng)
        names = set(caption.replace(",", "").split()) & set(MIKELS.names)
        if names:
            named += 1
            shown[scene.story in CLICHES[names.pop()]] += 1
    assert 0.12 < named / 8000 < 0.18
    assert 0.6 < shown[True] / named < 0.75


def test_data_set_on_disk(tmp_path: Path) -> None:
    counts = write_toy_source(tmp_path, seed=1, train_per_emotion=12, test_per_emotion=6)
    rows = [
        json.loads(line) for line in (tmp_path / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert counts["pictures"] == len(rows) == 8 * 18
    assert counts["mistaken_captions"] == sum(row["mistaken"] for row in rows) > 0
    assert not any(row["mistaken"] for row in rows if row["split"] == "test")
    with Image.open(tmp_path / rows[0]["image"]) as picture:
        assert picture.size == (64, 64)
    again = tmp_path / "again"
    write_toy_source(again, seed=1, train_per_emotion=12, test_per_emotion=6)
    for row in rows:
        assert (again / row["image"]).read_bytes() == (tmp_path / row["image"]).read_bytes()
