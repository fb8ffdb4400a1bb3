"""What every method promises: it fits within the budget, resumes, and draws what hangs on seed + i alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from coemogen_train.base.sampling import SamplingSettings
from coemogen_train.errors import ConfigError, DataError
from coemogen_train.methods import METHODS, FitRecord, loop
from coemogen_train.methods.cost import measured
from coemogen_train.methods.learned import LEARNED, Learned
from coemogen_train.methods.loop import prepare
from coemogen_train.train.history import TrainingDiverged
from tests.train.conftest import EMOTIONS

TRAINED = ("textual_inversion", "dreambooth", "emogen")
INTENDED = ("storm", "calm", "joy")


def test_the_registry_is_in_the_tables_order():
    untrained = ["name", "sentences"]
    trained = ["textual_inversion", "dreambooth", "emogen", "coemogen"]
    assert list(METHODS) == untrained + trained
    assert all(METHODS[key].tried == ({},) for key in untrained)
    assert all(len(METHODS[key].tried) == 2 for key in trained)


@pytest.mark.parametrize("key", METHODS)
def test_a_method_fits_conditions_and_draws(key, config, folder, base, tiny_resnet):
    method = METHODS[key]
    record = method.fit(config, folder)
    assert record == FitRecord.read(folder)
    trained = key not in ("name", "sentences")
    assert 0 < record.samples <= 16 if trained else record.samples == 0
    assert (record.parameters > 0) == (record.seconds > 0) == trained
    written = (folder / "fit.json").stat().st_mtime_ns
    assert method.fit(config, folder) == record and (folder / "fit.json").stat().st_mtime_ns == written

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


@pytest.mark.parametrize("key", ["textual_inversion", "emogen", "coemogen"])
def test_a_fit_that_diverges_says_so_and_again_at_once(key, config, folder, monkeypatch, tiny_resnet):
    config = config.model_copy(update={"max_bad_steps": 2, "log_every": 1})
    where = "coemogen_train.train.optimiser.GroupedAdamW.gradient_norm"  # of every method's step
    monkeypatch.setattr(where, lambda optimiser: torch.tensor(float("nan")))
    with pytest.raises(TrainingDiverged, match="2 steps in a row"):
        METHODS[key].fit(config, folder)
    monkeypatch.setattr(where, lambda optimiser: pytest.fail("another step"))
    with pytest.raises(TrainingDiverged, match="would end so again"):
        METHODS[key].fit(config, folder)
    assert not (folder / "fit.json").exists()


def test_memory_is_counted_from_what_was_held_before(tmp_path, monkeypatch):
    import psutil

    held = SimpleNamespace(rss=5000)
    process = SimpleNamespace(memory_info=lambda: held)
    monkeypatch.setattr(psutil, "Process", lambda: process)
    with measured(tmp_path) as cost:
        held.rss = 5700
    assert cost.peak_bytes == 700
    with measured(tmp_path) as cost:  # goes on after a kill
        held.rss = 5800
    assert cost.peak_bytes == 700


def test_the_cpu_is_trained_on_where_it_is_asked_for(config, folder, monkeypatch):
    from accelerate.state import AcceleratorState, PartialState

    # The state of accelerate is the process'; here it begins anew, on a machine that seems to have a GPU.
    monkeypatch.setattr(AcceleratorState, "_shared_state", {})
    monkeypatch.setattr(PartialState, "_shared_state", {})
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    ground = prepare(config, folder, "cpu")
    assert ground.accelerator.device.type == ground.base.device.type == "cpu"
    METHODS["textual_inversion"].fit(config, folder, device="cpu")
    with pytest.raises(ConfigError, match="this process trains on cpu"):
        prepare(config, folder, "cuda")
