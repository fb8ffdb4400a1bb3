"""The second toy base says what it predicts and keeps its whole text encoder: the clip skip must be asked."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from coemogen_train.base.load import load_base
from coemogen_train.toyworld.captions import sample_pretraining_pair
from coemogen_train.toyworld.pretraining.velocity import make_velocity_base
from coemogen_train.toyworld.scenes import draw_scene


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps on a corpus of 60 pictures."""
    work, rng = tmp_path_factory.mktemp("velocity"), random.Random(0)
    pairs = [sample_pretraining_pair(rng) for _ in range(60)]
    (work / "corpus").mkdir()
    np.save(work / "corpus" / "pictures.npy", np.stack([draw_scene(scene, rng) for scene, _ in pairs]))
    captions = json.dumps([caption for _, caption in pairs])
    (work / "corpus" / "captions.json").write_text(captions, encoding="utf-8")
    return make_velocity_base(work, steps=2, pictures=60, seed=0, log=lambda line: None, batch=8)


def test_it_predicts_v_and_leaves_the_clip_skip_to_be_asked(made: Path) -> None:
    base, bundled = load_base(made), load_base("toy")
    assert (base.declared.prediction_type, base.declared.clip_skip) == ("v_prediction", None)
    assert (base.prediction_type, base.clip_skip) == ("v_prediction", 1)
    here, there = base.text_encoder.state_dict(), bundled.text_encoder.state_dict()
    assert here.keys() == there.keys()
    assert all(torch.equal(here[name], there[name]) for name in there)
    assert load_base(made, clip_skip=2).clip_skip == 2


def test_only_its_unet_is_another(made: Path) -> None:
    base, bundled = load_base(made), load_base("toy")
    assert base.vae_fingerprint == bundled.vae_fingerprint
    here, there = base.unet.state_dict(), bundled.unet.state_dict()
    assert not all(torch.equal(here[name], there[name]) for name in there)


def test_a_finished_base_is_not_made_again(made: Path) -> None:
    told: list[str] = []
    assert make_velocity_base(made.parent, 2, 60, 0, told.append) == made
    assert told == []
