"""Checkpoints: whole or absent, the newest whole one wins, old ones go only after the new one holds."""

import json
import logging
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from coemogen_train.errors import ConfigError, DataError
from coemogen_train.files import sha256_file
from coemogen_train.train import checkpoint as module
from coemogen_train.train import resume
from coemogen_train.train.checkpoint import (
    Checkpoint,
    find_fault,
    load_newest,
    save_checkpoint,
    sweep_unfinished,
)
from coemogen_train.train.peers import Peers
from coemogen_train.train.resume import take_up


def made(step: int) -> Checkpoint:
    tensors = {
        "trainable": {"down.a.b": torch.full((2, 3), step + 0.1)},
        "optimiser": {"steps": torch.ones(2)},
    }
    return Checkpoint(step, tensors, {"config": {"rank": 4}, "Grüße": [1.5, None]})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def taking_up(out: Path, others: list[str]) -> SimpleNamespace:
    """A run of which the other processes see `others`."""
    peers = Peers()
    peers.count = 1 + len(others)
    peers.gather = lambda value: [value, *(("node7", sight) for sight in others)]
    config = SimpleNamespace(out=out, max_bad_steps=2)
    accelerator = SimpleNamespace(num_processes=1, is_main_process=True)
    return SimpleNamespace(config=config, accelerator=accelerator, peers=peers)


def test_processes_that_see_different_checkpoints_are_refused(tmp_path: Path):
    save_checkpoint(tmp_path / "checkpoints", made(7), keep=2)
    told = r"process 1 of 2, sees step 7 \(.{8}\); node7, process 2 of 2, sees step 5 \(0a\)\)"
    with pytest.raises(ConfigError, match=told):
        take_up(taking_up(tmp_path, ["step 5 (0a)"]), resume=True)


def test_a_checkpoint_that_lacks_a_part_is_told_in_a_sentence(tmp_path: Path, monkeypatch):
    state = {"processes": 1, "settings": {}, "bad_in_a_row": 0}
    lacking = Checkpoint(7, {"trainable": {"a": torch.ones(2)}}, state)
    save_checkpoint(tmp_path / "checkpoints", lacking, keep=2)
    monkeypatch.setattr(resume, "check_resume", lambda *_: [])
    with pytest.raises(DataError, match="of step 7 lacks loss_scale, optimiser: remove its folder"):
        take_up(taking_up(tmp_path, []), resume=True)


def test_round_trip_is_exact(tmp_path: Path):
    save_checkpoint(tmp_path, made(7), keep=2)
    read = load_newest(tmp_path)
    assert read is not None
    assert (read.step, read.state) == (7, made(7).state)
    assert torch.equal(read.tensors["trainable"]["down.a.b"], made(7).tensors["trainable"]["down.a.b"])


def test_only_the_newest_are_kept(tmp_path: Path):
    for step in (5, 10, 100, 20):
        save_checkpoint(tmp_path, made(step), keep=2)
    assert names(tmp_path) == ["step-00000020", "step-00000100"]


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "manifest"])
def test_a_damaged_newest_falls_back_to_the_one_before(tmp_path: Path, caplog, damage):
    save_checkpoint(tmp_path, made(1), keep=2)
    newest = save_checkpoint(tmp_path, made(2), keep=2)
    file = newest / ("manifest.json" if damage == "manifest" else "trainable.safetensors")
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
    if damage == "remove":
        file.unlink()
    else:
        file.write_bytes(data if damage == "flip" else data[: len(data) // 2])
    with caplog.at_level(logging.WARNING):
        read = load_newest(tmp_path)
    assert read is not None and read.step == 1
    assert "step-00000002" in caplog.text
    save_checkpoint(tmp_path, made(2), keep=2)  # reaching the step again replaces the damaged one
    assert find_fault(newest) is None


def test_nothing_is_not_the_same_as_everything_damaged(tmp_path: Path):
    assert load_newest(tmp_path / "none") is None
    (save_checkpoint(tmp_path, made(1), keep=2) / "state.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match=r"step-00000001: state\.json has changed"):
        load_newest(tmp_path)


def test_a_killed_write_leaves_no_final_name(tmp_path: Path, monkeypatch):
    save_checkpoint(tmp_path, made(1), keep=1)
    monkeypatch.setattr(module.os, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, made(2), keep=1)
    assert names(tmp_path) == ["step-00000001"]


def test_a_new_one_that_does_not_read_back_costs_no_old_one(tmp_path: Path, monkeypatch):
    save_checkpoint(tmp_path, made(1), keep=1)
    monkeypatch.setattr(module, "find_fault", lambda _: "trainable.safetensors has changed")
    with pytest.raises(OSError, match="does not read back"):
        save_checkpoint(tmp_path, made(2), keep=1)
    assert "step-00000001" in names(tmp_path)


def test_leftovers_of_killed_writers_are_swept(tmp_path: Path):
    (tmp_path / ".part-0123").mkdir()
    sweep_unfinished(tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "state",
    ["{", "[]", '{"step": 2}', '{"step": "2", "state": {}}', '{"step": 2, "state": [["a", 1]]}', "[" * 5000],
)
def test_a_state_that_is_none_falls_back_though_its_hash_holds(tmp_path: Path, state):
    save_checkpoint(tmp_path, made(1), keep=2)
    newest = save_checkpoint(tmp_path, made(2), keep=2)
    (newest / "state.json").write_text(state, encoding="utf-8")
    sign(newest)
    read = load_newest(tmp_path)
    assert read is not None and read.step == 1


def test_a_manifest_names_no_file_elsewhere(tmp_path: Path):
    newest = save_checkpoint(tmp_path / "run", made(1), keep=2)
    (tmp_path / "elsewhere").write_text("private", encoding="utf-8")
    sign(newest, newest.parent.parent / "elsewhere")
    assert find_fault(newest) == "manifest.json names a file that lies elsewhere"


def test_what_is_no_part_of_a_checkpoint_is_not_read_with_it(tmp_path: Path):
    newest = save_checkpoint(tmp_path, made(1), keep=2)
    (newest / "._trainable.safetensors").write_bytes(b"left by a copy")
    read = load_newest(tmp_path)
    assert read is not None and set(read.tensors) == {"trainable", "optimiser"}


def test_tensors_that_no_training_wrote_are_one_sentence(tmp_path: Path):
    newest = save_checkpoint(tmp_path, made(1), keep=2)
    (newest / "trainable.safetensors").write_bytes(b"something else")
    sign(newest)
    with pytest.raises(DataError, match=r"trainable\.safetensors: no training wrote this"):
        load_newest(tmp_path)


def sign(checkpoint: Path, *more: Path) -> None:
    """A manifest that fits what is there."""
    files = [file for file in checkpoint.iterdir() if file.name != "manifest.json"]
    hashes = {os.path.relpath(file, checkpoint): sha256_file(file) for file in [*files, *more]}
    (checkpoint / "manifest.json").write_text(json.dumps({"format": 1, "files": hashes}), encoding="utf-8")
