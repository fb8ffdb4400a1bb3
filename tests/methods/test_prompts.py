"""The baselines in words: what is said for which picture."""

from __future__ import annotations

from coemogen_train.base.generate import encode_prompts
from coemogen_train.data.samples import TrainingSet
from coemogen_train.methods import METHODS


def test_the_name_stands_alone_or_in_a_prompt(config, folder, base):
    METHODS["name"].fit(config, folder)
    drawer = METHODS["name"].open(config, folder, base)
    assert drawer.prompts(["joy", "calm"], 0) == ["an image of joy", "an image of calm"]
    assert drawer.prompts(["joy"], 0, "a street, {emotion}") == ["a street, joy"]
    expected = encode_prompts(base, ["an image of joy"])
    assert drawer.condition(["joy"], 0).prompt_embeds.equal(expected)


def test_sentences_are_the_emotions_kept_captions_drawn_by_picture(config, folder, base):
    METHODS["sentences"].fit(config, folder)
    drawer = METHODS["sentences"].open(config, folder, base)
    kept = TrainingSet.open(config.set).samples("train", kept_only=True)
    assert drawer.texts["joy"] == [sample.caption for sample in kept if sample.emotion == "joy"]
    drawn = drawer.prompts(["joy"] * 60, 5)
    assert set(drawn) == set(drawer.texts["joy"])
    assert drawer.prompts(["joy"] * 10, 25) == drawn[20:30]
