"""The toy world's instruments see what is there: stories, sameness, a copy, a blur."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageFilter

from coemogen_train.data import TrainingSet, prepare_toy
from coemogen_train.evaluate.distances import neighbourhoods
from coemogen_train.evaluate.figures import figures
from coemogen_train.evaluate.instruments import Instruments
from coemogen_train.evaluate.metrics import frechet_distance
from coemogen_train.evaluate.observe import observe
from coemogen_train.evaluate.pictures import LabelledPictures
from coemogen_train.toyworld.instruments import toy_instruments


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    folder = tmp_path_factory.mktemp("toy")
    prepare_toy(folder, 0, train_per_emotion=18, test_per_emotion=12, emotions=("awe", "fear"))
    return TrainingSet.open(folder)


@pytest.fixture(scope="module")
def instruments(toy: TrainingSet) -> Instruments:
    return toy_instruments(toy)


def test_real_toy_pictures_tell_their_stories_and_evoke_their_emotion(
    toy: TrainingSet, instruments: Instruments
) -> None:
    test = LabelledPictures.from_samples(toy.samples("test"), toy.taxonomy)
    seen = observe(test, instruments)
    found = figures(seen, None)
    assert found["story"].value > 0.8
    assert found["narratives"].value >= 5
    assert min(found["emo_a"].value, found["emo_a_second"].value) > 0.7
    assert found["polarity_a"].value == found["emo_a"].value  # awe and fear have different ones
    pictures = [test.load(i) for i in range(len(test))]
    assert instruments.perceptual(pictures[:2], pictures[:2]) == pytest.approx(0, abs=1e-6)
    blurred = instruments.inception([p.filter(ImageFilter.GaussianBlur(2)) for p in pictures])
    assert frechet_distance(blurred, seen.inception) > 0.3
    repeated = seen.inception[np.arange(len(test)) % 2]
    among = neighbourhoods(repeated, seen.inception)
    assert among.share(among.covers) < 0.7
    larger = [picture.resize((96, 96)) for picture in pictures]
    assert len(instruments.inception(larger)) == len(observe(test, instruments, "published").inception)


def test_a_fingerprint_is_of_the_pictures_and_the_seed(toy: TrainingSet, instruments: Instruments) -> None:
    assert toy_instruments(toy).fingerprint == instruments.fingerprint
    assert toy_instruments(toy, seed=1).fingerprint != instruments.fingerprint
