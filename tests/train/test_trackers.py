"""What trackers are told, where it goes, what they never hear, and that none of them ends a run."""

import importlib.machinery
import importlib.util
import json
import logging
import time

import pytest

from coemogen_train.errors import ConfigError
from coemogen_train.train.config import make_config
from coemogen_train.train.trackers import Trackers, check_trackers, open_trackers, told_settings


def config_of(tmp_path, *log_with, **more):
    required = {"base": "toy", "vision": "toy", "set": "s", "out": str(tmp_path)}
    return make_config({**required, "log_with": list(log_with), **more})


def read_back(folder):
    """{tag: [(step, value), ...]} as TensorBoard itself shows them, and the settings' text."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    scalars = {
        tag: [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }
    texts = [
        event.tensor_proto.string_val[0].decode("utf-8") for event in events.Tensors("settings/text_summary")
    ]
    return scalars, texts


def test_tensorboard_shows_what_was_logged(tmp_path):
    pytest.importorskip("tensorboard")
    with open_trackers(config_of(tmp_path, "tensorboard", rank=7), True, tmp_path, 0) as trackers:
        trackers.log(2, {"train/ldm": 0.5, "train/semantic": 0.25})
        trackers.log(4, {"train/ldm": 0.375, "train/semantic": None})
        trackers.log(4, {"validation/ldm": 0.75, "validation/awe/ldm": 1.0})
    scalars, texts = read_back(tmp_path / "tensorboard")
    assert scalars == {
        "train/ldm": [(2, 0.5), (4, 0.375)],
        "train/semantic": [(2, 0.25)],
        "validation/ldm": [(4, 0.75)],
        "validation/awe/ldm": [(4, 1.0)],
    }
    assert json.loads(texts[0])["rank"] == 7


@pytest.mark.parametrize(("done", "kept"), [(3, [(2, 1.0)]), (4, [(2, 1.0), (4, 1.0)]), (0, [])])
def test_tensorboard_forgets_the_steps_that_are_done_again(tmp_path, done, kept):
    pytest.importorskip("tensorboard")
    config = config_of(tmp_path, "tensorboard")
    with open_trackers(config, True, tmp_path, 0) as trackers:
        for step in (2, 4, 6):
            trackers.log(step, {"train/ldm": 1.0})
    time.sleep(1.01)  # TensorBoard orders its files by the second
    with open_trackers(config, True, tmp_path, done) as trackers:
        trackers.log(8, {"train/ldm": 2.0})
    assert read_back(tmp_path / "tensorboard")[0]["train/ldm"] == [*kept, (8, 2.0)]


def test_nothing_is_opened_for_nobody_and_on_other_processes(tmp_path):
    for config, main in ((config_of(tmp_path), True), (config_of(tmp_path, "tensorboard", "wandb"), False)):
        with open_trackers(config, main, tmp_path, 0) as trackers:
            trackers.log(1, {"train/ldm": 1.0})
    assert not list(tmp_path.iterdir())


def test_settings_are_told_without_paths_or_people(tmp_path):
    config = make_config(
        {
            "base": "/home/alice/models/photo.safetensors",
            "vision": "D:\\alice\\clip-vit",
            "set": "/home/alice/set",
            "out": "/home/alice/run",
            "init": "/home/alice/before.safetensors",
            "origin": "by alice",
            "learning_rate": 0.5,
            "emotions": ["awe", "fear"],
        }
    )
    told = told_settings(config)
    assert "alice" not in json.dumps(told)
    assert (told["base"], told["vision"]) == ("photo.safetensors", "clip-vit")
    assert (told["learning_rate"], told["emotions"]) == (0.5, ["awe", "fear"])
    assert not {"set", "out", "init", "origin"} & set(told)


@pytest.mark.parametrize(
    ("spec", "name"),
    [("toy", "toy"), ("owner/model", "model"), ("ViT-L-14:openai", "ViT-L-14:openai"), ("./base/", "base")],
)
def test_models_keep_their_bare_names(tmp_path, spec, name):
    assert told_settings(config_of(tmp_path, base=spec))["base"] == name


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
@pytest.mark.parametrize("found", [None, importlib.machinery.ModuleSpec("a_mere_folder", None)])
def test_a_missing_package_is_told_with_its_command(monkeypatch, name, found):
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: found)
    with pytest.raises(ConfigError, match=f"is not installed: pip install {name}\\.$"):
        check_trackers([name])


def test_packages_that_are_there_or_not_asked_for_are_no_fault():
    pytest.importorskip("tensorboard")
    check_trackers(["tensorboard"])
    check_trackers([])


class Recorder:
    name = "tensorboard"

    def __init__(self, fails: bool) -> None:
        self.fails, self.steps, self.finished = fails, [], 0

    def log(self, values, step):
        self.steps.append(step)
        if self.fails:
            raise OSError("no space left")

    def finish(self):
        self.finished += 1


def test_a_tracker_that_fails_is_told_once_and_the_others_go_on(caplog):
    caplog.set_level(logging.WARNING)
    bad, good = Recorder(fails=True), Recorder(fails=False)
    with Trackers([bad, good]) as trackers:
        for step in (1, 2, 3):
            trackers.log(step, {"train/ldm": 1.0})
    assert (bad.steps, good.steps, good.finished) == ([1], [1, 2, 3], 1)
    assert [entry.getMessage() for entry in caplog.records] == [
        "TensorBoard failed at step 1 (OSError: no space left); training goes on without it"
    ]


def test_a_tracker_that_cannot_open_or_end_is_told_and_ends_nothing(tmp_path, caplog, monkeypatch):
    pytest.importorskip("tensorboard")
    (tmp_path / "tensorboard").touch()  # a file, where its folder has to be
    with open_trackers(config_of(tmp_path, "tensorboard"), True, tmp_path, 0) as trackers:
        trackers.log(1, {"train/ldm": 1.0})
    assert len(caplog.records) == 1 and "TensorBoard failed to open" in caplog.text

    ending = Recorder(fails=False)
    monkeypatch.setattr(ending, "finish", lambda: 1 / 0)
    Trackers([ending]).close()
    assert "TensorBoard failed at its end (ZeroDivisionError" in caplog.text


def test_wandb_offline_keeps_its_run_in_the_folder_and_the_house_to_itself(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    config = config_of(tmp_path, "wandb", set="/home/alice/set", rank=7)
    with open_trackers(config, True, tmp_path, 0) as trackers:
        trackers.log(2, {"train/ldm": 0.5, "validation/awe/ldm": 1.0})
    (log,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    until = time.monotonic() + 20
    while b"train/ldm" not in (content := log.read_bytes()) and time.monotonic() < until:
        time.sleep(0.1)  # a process of its own writes, and may not have ended yet
    assert b"train/ldm" in content and b"learning_rate" in content
    assert b"alice" not in content
    assert (tmp_path / "wandb" / "run-id.txt").read_text(encoding="utf-8").encode() in content
