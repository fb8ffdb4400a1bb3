"""Several processes train what one process trains; and where one of them is gone, the others end well."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from coemogen_train.train.config import make_config
from coemogen_train.train.history import read_history
from coemogen_train.train.loop import train
from coemogen_train.train.validation import read_validation
from tests.train.launching import launch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo"),
]


def tensors(run: Path, step: int) -> dict[str, torch.Tensor]:
    folder = run / "checkpoints" / f"step-{step:08d}"
    return {
        name: tensor
        for part in ("trainable", "optimiser")
        for name, tensor in load_file(folder / f"{part}.safetensors").items()
    }


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Equal but for the order of float32 sums.

    Where a gradient is 1e-7 of the others', nearly cancelled, its last digits are all it has; Adam divides it
    by its own size, so that weights differ by up to 5e-4 of the learning rate (here 0.01, seen: 5e-6).
    """
    assert torch.equal(one["steps.stacked"], other["steps.stacked"])
    for name in one:
        least = 2e-5 if not name.startswith("exp_avg") else 1e-3 * float(one[name].abs().max())
        torch.testing.assert_close(
            other[name], one[name], rtol=1e-5, atol=least, msg=lambda told, name=name: f"{name}: {told}"
        )


def processes_of(run: Path, step: int) -> int:
    state = json.loads((run / "checkpoints" / f"step-{step:08d}" / "state.json").read_text(encoding="utf-8"))
    return state["state"]["processes"]


def test_two_processes_equal_one_of_twice_the_batch(settings, tmp_path):
    """Presence is that of both: an emotion that one process alone has seen is stepped by both."""
    changes = {"steps": 3, "batch_size": 2, "validate_every": 1, "ema_decay": 0.9}
    train(make_config(settings | changes | {"out": str(tmp_path / "one")}), progress=False)
    two = settings | changes | {"out": str(tmp_path / "two"), "batch_size": 1, "preview_every": 3}
    two |= {"preview_columns": 1, "preview_steps": 1}
    first, second = launch(two, processes=2)
    assert (first.code, second.code) == (0, 0), first.errors + second.errors
    assert_equal(tensors(tmp_path / "one", 3), tensors(tmp_path / "two", 3))
    assert (tmp_path / "two" / "adapter.safetensors").is_file()
    # One process alone writes: the other has not so much as opened a file for it.
    assert second.wrote == []
    assert any("history.jsonl" in path for path in first.wrote)
    records = [read_validation(tmp_path / run / "validation.jsonl") for run in ("one", "two")]
    assert [record.step for record in records[1]] == [0, 1, 2, 3]
    for alone, shared in zip(*records, strict=True):
        assert shared.ldm == pytest.approx(alone.ldm, rel=1e-5)
        assert shared.emotions.keys() == alone.emotions.keys()
    # Resumed where a validation is due and one process alone knows that it was done.
    assert [end.code for end in launch(two | {"steps": 4}, 2, resume=True)] == [0, 0]
    again = [record.step for record in read_validation(tmp_path / "two" / "validation.jsonl")]
    assert again == [0, 1, 2, 3, 4]


def test_one_process_goes_on_as_two_of_which_one_dies_and_again_as_one(settings, tmp_path):
    """The second ends in the fifth step without a word; in the end it is as if nothing had been."""
    whole = settings | {"batch_size": 2, "save_every": 2, "out": str(tmp_path / "undisturbed")}
    train(make_config(whole), progress=False)
    run, out = whole | {"out": str(tmp_path / "run")}, tmp_path / "run"
    train(make_config(run | {"steps": 2}), progress=False)
    first, second = launch(run, 2, resume=True, dies=[1, 5])
    assert (first.code, second.code) == (75, 9), first.errors
    assert "begun with 1 process of 2 x 1 pictures: 2 processes go on with 1 x 1" in first.errors
    (told,) = [line for line in first.errors.splitlines() if "another process" in line]
    assert "step 5 is saved in" in told and "--resume" in told
    assert "Traceback" not in first.errors
    assert [record.step for record in read_history(out / "history.jsonl")] == [1, 2, 3, 4, 5]
    assert processes_of(out, 5) == 2

    train(make_config(run), resume=True, progress=False)
    assert processes_of(out, 6) == 1
    assert_equal(tensors(tmp_path / "undisturbed", 6), tensors(out, 6))


@pytest.mark.skipif(os.name == "nt", reason="processes are frozen by a signal")
def test_a_process_that_is_frozen_ends_the_others_after_the_timeout(settings, tmp_path):
    """The first one at that, which keeps the store; the second waits in a step for what never comes."""
    run = settings | {"batch_size": 1, "save_every": 2, "lost_after": 5, "out": str(tmp_path / "run")}
    _, second = launch(run, 2, waits_for=1, freezes=[0, 3])
    assert second.code == 75, second.errors
    assert "of step 2 or a later one" in second.errors and "Traceback" not in second.errors
