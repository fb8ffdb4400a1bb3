"""The judges judge whatever emotions their set holds: eight, six of them, or nine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import coemogen_train.toyworld as toyworld
from coemogen_train.base.load import load_base
from coemogen_train.base.vision import load_vision
from coemogen_train.data import TrainingSet, build_cache, prepare_toy
from coemogen_train.emotions import MIKELS
from coemogen_train.toyworld.judges import Judges
from coemogen_train.toyworld.recogniser import load_recogniser

WEIGHTS = Path(toyworld.__file__).parent / "weights"
NINE = (*MIKELS.names, "nostalgia")
SIX = MIKELS.names[1:7]


def judges_of(folder: Path, **drawing) -> Judges:
    prepare_toy(folder, 0, train_per_emotion=36, test_per_emotion=18, **drawing)
    opened, clip = TrainingSet.open(folder), load_vision("toy")
    cache = build_cache(opened, load_base("toy"), clip, 64, flip=False)
    return Judges(opened, cache, clip, load_recogniser(WEIGHTS / "recogniser.safetensors"), 0)


@pytest.mark.slow
@pytest.mark.parametrize(("emotions", "style"), [(SIX, "woodcut"), (NINE, "plain")])
def test_real_pictures_of_six_and_of_nine_emotions_get_their_due(tmp_path, emotions, style) -> None:
    judges = judges_of(tmp_path, emotions=emotions, style=style)
    seen = judges.judge("real", judges.test_pictures, judges.test_labels, "reference", "")
    assert set(seen.predicted) <= set(emotions)
    assert seen.row.coverage_of == 6
    assert seen.row.coverage >= 5  # three pictures of each story, of the set's emotions and of no other
    assert seen.row.story > 0.8
    assert seen.row.emo_a > 2.5 / len(emotions)
    shifted = judges.test_labels[18:] + judges.test_labels[:18]
    wrong = judges.judge("mislabelled", judges.test_pictures, shifted, "reference", "")
    assert wrong.row.story == 0  # no story belongs to two emotions
    assert wrong.row.emo_a < 0.2
    by_emotion = np.array(seen.right).reshape(len(emotions), 18).mean(1)
    assert by_emotion[list(judges.narratives).index(judges.test_labels[-1])] > 0.3


@pytest.mark.slow
def test_coverage_of_one_emotion_is_of_its_own_stories(tmp_path) -> None:
    judges = judges_of(tmp_path, emotions=NINE)
    own = [
        picture
        for picture, label in zip(judges.test_pictures, judges.test_labels, strict=True)
        if label == "nostalgia"
    ]
    row = judges.judge("nostalgia", own, ["nostalgia"] * len(own), "reference", "").row
    assert (row.coverage, row.coverage_of, row.n) == (6, 6, 18)
