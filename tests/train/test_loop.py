"""The loop's promises: exact resumption, no bad number in the weights, a stop that saves."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from coemogen_train.data.samples import TrainingSet
from coemogen_train.errors import ConfigError, DataError
from coemogen_train.train import loop
from coemogen_train.train.config import make_config
from coemogen_train.train.control import TrainingInterrupted
from coemogen_train.train.history import TrainingDiverged, read_history
from coemogen_train.train.loop import train
from coemogen_train.train.objective import CoEmoGenObjective

DIES = """
import json, os, signal, sys
from coemogen_train.train import loop
from coemogen_train.train.config import make_config
real = loop.optimise
def dying(run, step):
    reading = real(run, step)
    if step == 4:
        os.kill(os.getpid(), signal.SIGKILL)  # one step after the checkpoint of step 3, and one unsaved
    return reading
loop.optimise = dying
loop.train(make_config(json.loads(sys.argv[1])), progress=False)
"""


def quiet_train(settings: dict, resume: bool = False, **changes):
    return train(make_config(settings | changes), resume=resume, progress=False)


def saved(out: Path, step: int) -> dict[str, torch.Tensor]:
    folder = Path(out) / "checkpoints" / f"step-{step:08d}"
    return {
        f"{file.stem}.{name}": tensor
        for file in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no kill -9")
def test_killed_and_resumed_equals_uninterrupted_to_the_bit(settings, tmp_path):
    straight = quiet_train(settings, out=str(tmp_path / "straight"))
    killed = settings | {"out": str(tmp_path / "killed")}
    process = subprocess.run(
        [sys.executable, "-c", DIES, json.dumps(killed)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert [record.step for record in read_history(tmp_path / "killed" / "history.jsonl")][-1] == 4
    resumed = quiet_train(killed, resume=True)
    assert_same(saved(tmp_path / "straight", 6), saved(tmp_path / "killed", 6))
    assert resumed.history.read_bytes() == straight.history.read_bytes()
    assert resumed.adapter.read_bytes() == straight.adapter.read_bytes()


def test_training_lowers_the_loss_and_leaves_an_adapter(settings):
    result = quiet_train(settings, steps=60, v_dropout=0, condition_dropout=0, save_every=0)
    records = read_history(result.history)
    assert [record.step for record in records] == list(range(1, 61))
    assert records[0].learning_rate < records[2].learning_rate == records[-1].learning_rate == 0.01
    first, last = ([record.semantic for record in part] for part in (records[:10], records[-10:]))
    assert sum(last) < 0.8 * sum(first)
    assert result.adapter.is_file() and result.steps == 60 and result.skipped == 0


def test_accumulated_micro_batches_equal_one_batch(settings, tmp_path):
    """An effective batch draws the same however it is split; a group present in one part only is present."""
    quiet_train(settings, out=str(tmp_path / "whole"), steps=3)
    quiet_train(settings, out=str(tmp_path / "parts"), steps=3, batch_size=1, accumulate=4)
    whole, parts = saved(tmp_path / "whole", 3), saved(tmp_path / "parts", 3)
    for name in whole:
        torch.testing.assert_close(
            parts[name], whole[name], rtol=1e-3, atol=1e-5, msg=lambda told, name=name: f"{name}: {told}"
        )
    assert torch.equal(parts["optimiser.steps.stacked"], whole["optimiser.steps.stacked"])


def test_an_absent_emotion_stays_as_it_was_and_the_present_ones_move(settings):
    quiet_train(settings, steps=1, save_every=1, batch_size=1)  # one sample: one emotion, one polarity
    steps = saved(settings["out"], 1)["optimiser.steps.stacked"]
    assert sorted(steps[:3].tolist()) == [0, 0, 1] and sorted(steps[3:].tolist()) == [0, 1]
    tensors = saved(settings["out"], 1)
    up = next(tensors[name] for name in tensors if name.startswith("trainable.hilora.up"))
    moved = up.unflatten(1, (5, 2)).abs().amax(dim=(0, 2)) > 0
    assert torch.equal(moved, steps > 0)


def poison(monkeypatch, steps: set[int], where: str) -> None:
    """Make sample 1 of these steps' losses, or the gradients behind them, not finite."""
    real, calls = CoEmoGenObjective._denoise, iter(range(10_000))

    def denoise(self, *arguments):
        ldm = real(self, *arguments)
        if next(calls) not in steps:
            return ldm
        if where == "gradient":
            ldm.register_hook(lambda gradient: gradient * float("inf"))
            return ldm
        return ldm + torch.tensor([0, float("nan"), 0, 0])

    monkeypatch.setattr(CoEmoGenObjective, "_denoise", denoise)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_bad_number_never_reaches_the_weights(settings, monkeypatch, caplog, where):
    quiet_train(settings, steps=3, save_every=1, keep_checkpoints=9, out=settings["out"] + "-clean")
    poison(monkeypatch, {2}, where)
    with caplog.at_level(logging.WARNING):
        result = quiet_train(settings, steps=4, save_every=1, keep_checkpoints=9)
    before, after = saved(settings["out"], 2), saved(settings["out"], 3)
    assert_same(before, after)
    assert_same(before, saved(settings["out"] + "-clean", 2))
    assert all(tensor.isfinite().all() for tensor in saved(settings["out"], 4).values())
    record = read_history(result.history)[2]
    assert record.skipped and result.skipped == 1
    assert len(record.samples) == 1 if where == "loss" else len(record.samples) > 1
    assert "step 3" in caplog.text and record.samples[0] in caplog.text


def test_several_bad_steps_in_a_row_end_the_run_with_advice(settings, monkeypatch):
    poison(monkeypatch, {1, 2, 3}, "loss")
    with pytest.raises(TrainingDiverged, match=r"3 steps in a row.*learning_rate") as caught:
        quiet_train(settings, steps=20, max_bad_steps=3, log_every=1, save_every=0)
    assert "\n" not in str(caught.value)
    assert_same(saved(settings["out"], 4), saved(settings["out"], 4))  # what was good is kept


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send these signals to itself")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_saves(settings, monkeypatch, number):
    real = loop.optimise

    def signalled(run, step):
        if step == 1:
            os.kill(os.getpid(), number)
        return real(run, step)

    monkeypatch.setattr(loop, "optimise", signalled)
    with pytest.raises(TrainingInterrupted) as caught:
        quiet_train(settings)
    assert caught.value.step == 2
    assert [r.step for r in read_history(Path(settings["out"]) / "history.jsonl")] == [1, 2]
    monkeypatch.setattr(loop, "optimise", real)
    assert quiet_train(settings, resume=True).steps == 6


def test_a_save_file_saves_and_writes_the_adapter_and_training_goes_on(settings, monkeypatch, tmp_path):
    from coemogen_train.adapter.file import load_adapter

    real = loop.optimise

    def wished(run, step):
        if step == 3:
            (run.config.out / "save").touch()
        return real(run, step)

    monkeypatch.setattr(loop, "optimise", wished)
    result = quiet_train(settings, log_every=1, save_every=0, keep_checkpoints=9)
    saves = [folder.name for folder in sorted((Path(settings["out"]) / "checkpoints").iterdir())]
    assert saves == ["step-00000004", "step-00000006"] and result.steps == 6
    written = load_adapter(Path(settings["out"]) / "adapters" / "step-00000004.safetensors")
    assert written.info.training["steps"] == 4
    monkeypatch.setattr(loop, "optimise", real)
    assert (
        quiet_train(settings, out=str(tmp_path / "other")).adapter.read_bytes() == result.adapter.read_bytes()
    )


def test_a_run_is_not_overwritten_and_not_resumed_as_another(settings):
    quiet_train(settings, steps=3)
    with pytest.raises(ConfigError, match="--resume"):
        quiet_train(settings)
    with pytest.raises(ConfigError, match="rank was 2 and is now 3"):
        quiet_train(settings, resume=True, rank=3)
    assert quiet_train(settings, resume=True, steps=4).steps == 4


def test_previews_are_drawn_and_change_nothing(settings, tmp_path):
    quiet_train(settings, out=str(tmp_path / "without"))
    quiet_train(settings, out=str(tmp_path / "with"), preview_every=2, preview_columns=2, preview_steps=2)
    assert len(list((tmp_path / "with" / "previews").glob("*.png"))) == 3
    assert_same(saved(tmp_path / "without", 6), saved(tmp_path / "with", 6))


def test_a_sheet_that_a_kill_left_out_is_drawn_on_resuming_and_what_it_left_behind_is_swept(settings):
    drawing = {"preview_every": 3, "preview_columns": 1, "preview_steps": 2}
    out = quiet_train(settings, **drawing).adapter.parent
    sheet = out / "previews" / "step-00000006.png"
    drawn = sheet.read_bytes()
    sheet.rename(sheet.with_name(".part-0.png"))
    (out / ".part-1.safetensors").write_bytes(b"half an adapter")
    quiet_train(settings, resume=True, **drawing)
    assert sheet.read_bytes() == drawn
    assert not list(out.rglob(".part-*"))


def test_a_preview_that_fails_ends_nothing(settings, monkeypatch, caplog):
    monkeypatch.setattr("coemogen_train.train.previews.generate_images", lambda *_: 1 / 0)
    with caplog.at_level(logging.WARNING):
        assert quiet_train(settings, preview_every=3).steps == 6
    assert "no preview of step 3" in caplog.text


def test_gradient_checkpointing_and_half_precision_train(settings):
    result = quiet_train(settings, precision="bf16", gradient_checkpointing=True, semantic_loss="pooled")
    assert result.skipped == 0 and result.ldm is not None
    assert all(
        tensor.dtype == torch.float32
        for name, tensor in saved(settings["out"], 6).items()
        if name.startswith("trainable")
    )


def test_missing_captions_are_told_before_anything_is_loaded(settings, tmp_path):
    shutil.copytree(settings["set"], tmp_path / "set")
    TrainingSet.open(tmp_path / "set").write_captions([])
    bare = settings | {"set": str(tmp_path / "set")}
    with pytest.raises(DataError, match="18 of 18 training pictures have no caption"):
        quiet_train(bare)
    assert quiet_train(bare, semantic_weight=0, steps=2).semantic == 0
