"""`generate` uses a base as its files say, else as the adapter's own was used, and tells what differs."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from coemogen_train.adapter.file import Adapter, make_embedder, make_hilora, save_adapter
from coemogen_train.adapter.gaussians import EmotionGaussians
from coemogen_train.adapter.hilora import find_layers
from coemogen_train.adapter.info import AdapterInfo, BaseInfo, TextEncoderInfo, VisionInfo
from coemogen_train.base.declared import Declared
from coemogen_train.base.generate import check_fits, emotion_conditions, setting_warnings, trained_settings
from coemogen_train.base.load import load_base
from coemogen_train.base.model import BaseModel
from coemogen_train.cli.program import run
from coemogen_train.emotions import MIKELS

from .tiny import WIDTH, write_base

VISION_WIDTH = 6
PLAIN = Declared("epsilon", 1, False)
OTHER = Declared("v_prediction", 2, True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def silent(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same base, whose scheduler does not say what the U-Net predicts."""
    copy = Path(shutil.copytree(folder, tmp_path_factory.mktemp("silent") / "silent"))
    path = copy / "scheduler" / "scheduler_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("prediction_type", "rescale_betas_zero_snr", "timestep_spacing"):
        config.pop(key, None)
    path.write_text(json.dumps(config), encoding="utf-8")
    return copy


@pytest.fixture(scope="module")
def base(folder: Path) -> BaseModel:
    return load_base(folder)


def _adapter(base: BaseModel, trained: Declared) -> Adapter:
    torch.manual_seed(2)
    info = AdapterInfo(
        taxonomy=MIKELS,
        base=BaseInfo(
            base.architecture,
            str(trained.prediction_type),
            WIDTH,
            "home",
            zero_terminal_snr=bool(trained.zero_terminal_snr),
        ),
        text_encoders=(TextEncoderInfo(WIDTH, clip_skip=trained.clip_skip or 1),),
        vision=VisionInfo("none", VISION_WIDTH),
        layers=find_layers(base.unet),
        hidden=8,
    )
    gaussians = EmotionGaussians(
        torch.ones(8, 1), torch.randn(8, 1, VISION_WIDTH), torch.ones(8, 1, VISION_WIDTH)
    )
    embedder, hilora = make_embedder(info, 1.0), make_hilora(info)
    return Adapter(info, embedder.requires_grad_(False), hilora.requires_grad_(False), gaussians)


def test_nothing_is_said_where_nothing_differs(base: BaseModel) -> None:
    assert setting_warnings(base, _adapter(base, PLAIN)) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prediction_type": "v_prediction"}, ("v_prediction", "epsilon", "prediction type")),
        ({"clip_skip": 2}, ("clip skip 2", "clip skip 1", "set the clip skip to 2")),
        ({"zero_terminal_snr": True}, ("goes on to pure noise", "stops short of pure noise")),
    ],
)
def test_another_setting_is_one_sentence_with_both_sides_and_no_error(
    base: BaseModel, change: dict[str, Any], words: tuple[str, ...]
) -> None:
    adapter = _adapter(base, replace(PLAIN, **change))
    (told,) = setting_warnings(base, adapter)
    assert all(word in told for word in (*words, "tiny", "use a base like home"))
    assert told.count(". ") == 0 and told.endswith(".")
    check_fits(base, adapter)
    emotion_conditions(base, adapter, torch.eye(8)[:1], torch.zeros(1, VISION_WIDTH))


def test_all_that_differs_is_told(base: BaseModel) -> None:
    assert len(setting_warnings(base, _adapter(base, OTHER))) == 3


def test_an_adapter_remembers_how_its_base_was_used(base: BaseModel) -> None:
    assert trained_settings(_adapter(base, OTHER)) == OTHER


def _draw(
    adapter: Adapter, spec: Path, out: Path, capsys: pytest.CaptureFixture[str], *more: str
) -> dict[str, Any]:
    save_adapter(adapter, out / "adapter.safetensors")
    command = ["generate", str(out / "adapter.safetensors"), "--base", str(spec), "--emotion", "awe"]
    command += ["--out", str(out), "--steps", "1", "--device", "cpu", "--json", *more]
    capsys.readouterr()
    assert run(command) == 0
    return json.loads(capsys.readouterr().out)


def test_a_silent_base_is_used_as_the_adapters_own_was(
    base: BaseModel, silent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = _draw(_adapter(base, OTHER), silent, tmp_path, capsys)
    assert (told["prediction_type"], told["clip_skip"], told["warnings"]) == ("v_prediction", 2, [])


def test_a_base_that_speaks_is_believed_and_the_difference_told(
    base: BaseModel,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        told = _draw(_adapter(base, OTHER), folder, tmp_path, capsys)
    assert (told["prediction_type"], told["clip_skip"]) == (
        "epsilon",
        2,
    )  # the folder is silent on the second
    assert len(told["warnings"]) == 2 and "v_prediction" in told["warnings"][0]
    assert [record.getMessage() for record in caplog.records] == told["warnings"]


def test_what_the_user_says_wins(
    base: BaseModel, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--clip-skip", "1", "--prediction-type", "v_prediction")
    told = _draw(_adapter(base, OTHER), folder, tmp_path, capsys, *options)
    assert (told["prediction_type"], told["clip_skip"]) == ("v_prediction", 1)
    assert len(told["warnings"]) == 2 and "clip skip" in told["warnings"][0]


def test_the_settings_change_the_picture(
    base: BaseModel, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = set()
    for options in ((), ("--clip-skip", "2"), ("--prediction-type", "v_prediction")):
        told = _draw(_adapter(base, PLAIN), folder, tmp_path, capsys, "--guidance", "1", *options)
        pictures.add(Path(told["pictures"][0]["image"]).read_bytes())
    assert len(pictures) == 3


def test_a_layer_that_is_not_there_is_one_sentence(
    base: BaseModel, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_adapter(_adapter(base, PLAIN), tmp_path / "adapter.safetensors")
    command = ["generate", str(tmp_path / "adapter.safetensors"), "--base", str(folder), "--emotion", "awe"]
    assert run([*command, "--out", str(tmp_path), "--clip-skip", "7"]) == 2
    assert "there is no clip skip 7" in capsys.readouterr().err.splitlines()[-1]
