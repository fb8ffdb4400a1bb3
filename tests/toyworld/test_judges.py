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
EACH = 18


@pytest.fixture(scope="module", params=[(SIX, "woodcut"), (NINE, "plain")], ids=["six", "nine"])
def judges(request, tmp_path_factory: pytest.TempPathFactory) -> Judges:
    emotions, style = request.param
    folder, clip = tmp_path_factory.mktemp("judges"), load_vision("toy")
    prepare_toy(folder, 0, train_per_emotion=36, test_per_emotion=EACH, emotions=emotions, style=style)
    opened = TrainingSet.open(folder)
    cache = build_cache(opened, load_base("toy"), clip, 64, flip=False)
    return Judges(opened, cache, clip, load_recogniser(WEIGHTS / "recogniser.safetensors"), 0)


@pytest.mark.slow
def test_real_pictures_of_six_and_of_nine_emotions_get_their_due(judges: Judges) -> None:
    names = tuple(judges.narratives)
    seen = judges.judge("real", judges.test_pictures, judges.test_labels, "reference", "")
    assert set(seen.predicted) <= set(names)
    assert seen.row.coverage_of == 6
    assert seen.row.coverage >= 5  # three pictures of each story, of the set's emotions and of no other
    assert seen.row.story > 0.8
    assert seen.row.emo_a > 2.5 / len(names)
    per_emotion = np.array(seen.right).reshape(len(names), EACH).mean(1)
    assert per_emotion.min() > 0.3
    shifted = judges.test_labels[EACH:] + judges.test_labels[:EACH]
    wrong = judges.judge("mislabelled", judges.test_pictures, shifted, "reference", "")
    assert wrong.row.story == 0  # no story belongs to two emotions
    assert wrong.row.emo_a < 0.2


@pytest.mark.slow
def test_coverage_of_one_emotion_is_of_its_own_stories(judges: Judges) -> None:
    name = judges.test_labels[-1]
    own = [p for p, label in zip(judges.test_pictures, judges.test_labels, strict=True) if label == name]
    row = judges.judge(name, own, [name] * EACH, "reference", "").row
    assert row.coverage >= 5
    assert (row.coverage_of, row.n) == (6, EACH)
