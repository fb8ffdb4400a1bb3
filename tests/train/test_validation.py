"""The validation loss: the same noise every time, per emotion, and without a trace in the run."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from coemogen_train.train import loop
from coemogen_train.train.config import make_config
from coemogen_train.train.loop import train
from coemogen_train.train.start import begin
from coemogen_train.train.validation import Validation, cut_validation, read_validation
from tests.train.test_loop import assert_same, quiet_train, saved


def records(settings) -> list:
    return read_validation(Path(settings["out"]) / "validation.jsonl")


def test_it_leaves_no_trace_in_the_run(settings, tmp_path):
    quiet_train(settings, out=str(tmp_path / "without"))
    watched = settings | {"out": str(tmp_path / "with"), "validate_every": 2}
    quiet_train(watched)
    assert_same(saved(tmp_path / "without", 6), saved(tmp_path / "with", 6))
    assert [record.step for record in records(watched)] == [0, 2, 4, 6]


def test_runs_of_other_seeds_are_measured_by_the_same_noise(settings, tmp_path):
    """Before the first step HiLoRA is silent and the bare base the same, so only the condition differs."""
    first = settings | {"out": str(tmp_path / "a"), "validate_every": 6, "steps": 1}
    again = first | {"out": str(tmp_path / "b")}
    other = first | {"out": str(tmp_path / "c"), "batch_size": 3, "flip": False, "v_dropout": 0.9}
    for run in (first, again, other):
        quiet_train(run)
    assert records(first)[0] == records(again)[0]
    assert records(first)[0].ldm == pytest.approx(records(other)[0].ldm, rel=1e-5)


def test_each_emotion_has_its_mean_and_numpy_agrees(settings, monkeypatch):
    """The record against the objective asked one picture and one timestep at a time."""
    asked = []
    real = Validation.measure

    def measure(self, step):
        record = real(self, step)
        run = self._run
        for i, item in enumerate(run.held_out.items):
            for time in (125, 375, 625, 875):
                batch = run.batches.held_out(
                    [item],
                    run.held_out.latents[i : i + 1],
                    run.held_out.image_embeds[i : i + 1],
                    torch.tensor([time]),
                )
                ldm, semantic = run.objective.evaluate(batch)
                asked.append((run.taxonomy.names[item.emotion], ldm.item(), semantic.item()))
        return record

    monkeypatch.setattr(Validation, "measure", measure)
    quiet_train(settings, validate_every=9, steps=1)
    first, half = records(settings)[0], len(asked) // 2
    assert len(first.emotions) == 3 and half == 3 * 2 * 4
    for name, loss in first.emotions.items():
        own = np.array([(ldm, semantic) for emotion, ldm, semantic in asked[:half] if emotion == name])
        np.testing.assert_allclose([loss.ldm, loss.semantic], own.mean(0), rtol=1e-4)
    assert first.ldm == pytest.approx(np.mean([loss.ldm for loss in first.emotions.values()]))


def test_a_resumed_run_has_the_records_of_an_uninterrupted_one(settings, tmp_path, monkeypatch):
    straight = settings | {"out": str(tmp_path / "straight"), "validate_every": 1, "ema_decay": 0.9}
    quiet_train(straight)
    stopped = straight | {"out": str(tmp_path / "stopped")}
    real = loop.optimise

    def fails(run, step):
        if step == 5:
            raise RuntimeError("power cut")
        return real(run, step)

    monkeypatch.setattr(loop, "optimise", fails)
    with pytest.raises(RuntimeError):
        quiet_train(stopped)
    monkeypatch.setattr(loop, "optimise", real)
    quiet_train(stopped, resume=True)
    assert records(stopped) == records(straight) and len(records(straight)) == 7
    assert_same(saved(tmp_path / "straight", 6), saved(tmp_path / "stopped", 6))


def test_with_averaging_it_is_the_averaged_weights_that_are_measured_and_written(settings, tmp_path):
    """The average stays behind while the live weights, at this rate, run away."""
    from coemogen_train.adapter.file import load_adapter

    fast = settings | {"validate_every": 6, "learning_rate": 0.1, "warmup_steps": 0}
    live, slow = (
        fast | {"out": str(tmp_path / "live")},
        fast | {"out": str(tmp_path / "slow"), "ema_decay": 0.99},
    )
    quiet_train(live)
    quiet_train(slow)
    assert_same(
        {k: v for k, v in saved(tmp_path / "live", 6).items() if k.startswith("trainable")},
        {k: v for k, v in saved(tmp_path / "slow", 6).items() if k.startswith("trainable")},
    )
    assert records(live)[0] == records(slow)[0] and records(live)[-1] != records(slow)[-1]
    state = saved(tmp_path / "slow", 6)
    adapter = load_adapter(tmp_path / "slow" / "adapter.safetensors")
    averaged = state["optimiser.ema.embedder.mapper.layers.0.weight"]
    assert torch.equal(adapter.embedder.mapper.layers[0].weight, averaged)
    assert not torch.equal(averaged, state["trainable.embedder.mapper.layers.0.weight"])


def test_pictures_are_chosen_by_content_and_limited_per_emotion(settings):
    config = make_config(settings | {"validate_every": 1, "validation_pictures": 1})
    chosen = begin(config).held_out
    assert sorted(sample.emotion for sample in chosen) == ["calm", "joy", "storm"]
    assert all(sample.split == "val" for sample in chosen)
    assert begin(make_config(settings)).held_out == []


def test_a_loss_that_is_not_finite_is_written_as_none_and_ends_nothing(settings, monkeypatch, caplog):
    from coemogen_train.train.objective import CoEmoGenObjective

    real = CoEmoGenObjective.evaluate

    def evaluate(self, batch, captioned=True):
        ldm, semantic = real(self, batch, captioned)
        return torch.where(batch.emotion[:, 1] > 0, ldm.new_tensor(float("nan")), ldm), semantic

    monkeypatch.setattr(CoEmoGenObjective, "evaluate", evaluate)
    quiet_train(settings, validate_every=3, steps=3)
    last = records(settings)[-1]
    assert last.emotions["joy"].ldm is None and last.emotions["calm"].ldm is not None
    assert last.ldm == pytest.approx((last.emotions["calm"].ldm + last.emotions["storm"].ldm) / 2)
    assert "not finite: joy" in caplog.text


def test_a_run_that_was_killed_before_its_last_validation_makes_up_for_it(settings, monkeypatch):
    watched = settings | {"validate_every": 4}
    monkeypatch.setattr(Validation, "measure", lambda self, step: 1 / 0 if step == 6 else None)
    with pytest.raises(ZeroDivisionError):
        quiet_train(watched)
    monkeypatch.undo()
    quiet_train(watched, resume=True)
    assert [record.step for record in records(watched)] == [6]


def test_half_a_line_of_a_killed_run_is_passed_over(tmp_path):
    file = tmp_path / "validation.jsonl"
    whole = {"step": 1, "ldm": 0.5, "semantic": 0.1, "emotions": {"awe": {"ldm": 0.5, "semantic": 0.1}}}
    file.write_text(json.dumps(whole) + "\n" + json.dumps(whole | {"step": 2})[:20], encoding="utf-8")
    assert [record.step for record in read_validation(file)] == [1]
    cut_validation(file, 0)
    assert file.read_text(encoding="utf-8") == ""


def test_a_run_without_held_out_pictures_trains_and_says_so(settings):
    result = train(make_config(settings | {"validate_every": 2, "validation_split": "test"}), progress=False)
    assert result.validation is None and not (Path(settings["out"]) / "validation.jsonl").exists()
