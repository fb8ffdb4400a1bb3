"""What every method promises: it fits within the budget, resumes, and draws what hangs on seed + i alone."""

from __future__ import annotations

import pytest
import torch

from coemogen_train.base.sampling import SamplingSettings
from coemogen_train.errors import DataError
from coemogen_train.methods import METHODS, FitRecord, loop
from coemogen_train.methods.learned import LEARNED, Learned
from tests.train.conftest import EMOTIONS

TRAINED = ("textual_inversion", "dreambooth", "emogen")
INTENDED = ("storm", "calm", "joy")


def test_the_registry_is_in_the_tables_order():
    untrained = ["name", "sentences"]
    trained = ["textual_inversion", "dreambooth", "dreambooth_conditional", "emogen", "coemogen"]
    assert list(METHODS) == untrained + trained
    assert all(METHODS[key].tried == ({},) for key in untrained)
    assert all(len(METHODS[key].tried) == 2 for key in trained)


@pytest.mark.parametrize("key", [key for key in METHODS if key != "dreambooth_conditional"])
def test_a_method_fits_conditions_and_draws(key, config, folder, base, tiny_resnet):
    method = METHODS[key]
    record = method.fit(config, folder)
    assert record == FitRecord.read(folder)
    trained = key not in ("name", "sentences")
    assert 0 < record.samples <= 16 if trained else record.samples == 0
    assert (record.parameters > 0) == (record.seconds > 0) == (record.peak_bytes > 0) == trained

    drawer = method.open(config, folder, base)
    assert drawer.names == EMOTIONS
    whole, part = drawer.condition(INTENDED, 7), drawer.condition(INTENDED[1:], 8)
    assert whole.prompt_embeds.shape == (3, base.max_length, base.width)
    torch.testing.assert_close(whole.prompt_embeds[1:], part.prompt_embeds)
    assert whole.negative_embeds.shape == (1, base.max_length, base.width)
    assert (whole.gates is None) == (drawer.hilora is None) == (key not in ("dreambooth", "coemogen"))
    in_prompt = drawer.condition(INTENDED, 7, "a road, {emotion}")
    assert not torch.equal(in_prompt.prompt_embeds, whole.prompt_embeds)
    pictures = drawer.generate(part, 8, SamplingSettings(steps=1, guidance=2.0))
    assert [picture.size for picture in pictures] == [(16, 16)] * 2


@pytest.mark.parametrize("key", ["dreambooth", "emogen"])
def test_killed_and_called_again_ends_alike_to_the_byte(
    key, config, folder, tmp_path, monkeypatch, tiny_resnet
):
    whole = tmp_path / "whole"
    METHODS[key].fit(config, whole)
    step, real = 0, loop.optimise

    def killed_in_the_third(run, number):
        nonlocal step
        step += run.config.out == folder
        if step == 3:
            raise KeyboardInterrupt
        return real(run, number)

    monkeypatch.setattr(loop, "optimise", killed_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        METHODS[key].fit(config, folder)
    assert not (folder / LEARNED).exists()
    METHODS[key].fit(config, folder)
    assert (folder / LEARNED).read_bytes() == (whole / LEARNED).read_bytes()
    history = (folder / "history.jsonl").read_text(encoding="utf-8")
    assert history == (whole / "history.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize("key", TRAINED)
def test_what_is_no_fit_of_the_method_is_said_in_one_sentence(key, config, folder, base):
    with pytest.raises(DataError, match="fit the method again"):
        METHODS[key].open(config, folder, base)
    Learned({"other": torch.zeros(1)}, {"names": ["calm"]}).write(folder)
    with pytest.raises(DataError, match="not learned by this method"):
        METHODS[key].open(config, folder, base)
