"""Clip skip and prediction type: what the files say, what the user says, what the text encoder then gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from coemogen_train.adapter.condition import encode_text
from coemogen_train.base.declared import Declared, Wanted, declared_in_file, declared_in_folder
from coemogen_train.base.load import load_base
from coemogen_train.base.model import BaseModel
from coemogen_train.base.single_file import load_single_file
from coemogen_train.errors import UserError

from .checkpoints import checkpoint_shapes, random_weights, write_tiny_configs
from .tiny import write_base

LAYERS = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_configs(tmp_path_factory.mktemp("configs") / "configs")


@pytest.fixture(scope="module")
def weights(configs: Path) -> dict[str, torch.Tensor]:
    return random_weights(checkpoint_shapes(configs), 0, torch.float32)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, weights: dict[str, torch.Tensor]) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    save_file(weights, str(path))
    return path


def _schedule(folder: Path, **changes: Any) -> None:
    path = folder / "scheduler" / "scheduler_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | changes
    config = {key: value for key, value in config.items() if value is not None}
    path.write_text(json.dumps(config), encoding="utf-8")


def _ids(base: BaseModel) -> torch.Tensor:
    texts = ["a dog in the rain", "joy"]
    return base.tokenizer(
        texts, padding="max_length", truncation=True, max_length=base.max_length, return_tensors="pt"
    ).input_ids


@torch.no_grad()
def _second_to_last(whole: BaseModel, ids: torch.Tensor) -> torch.Tensor:
    """Reference: transformers' own states before the last layer, through its final layer norm."""
    states = whole.text_encoder(input_ids=ids, output_hidden_states=True).hidden_states
    inner = getattr(whole.text_encoder, "text_model", whole.text_encoder)
    return inner.final_layer_norm(states[-2])


@torch.no_grad()
def _hidden(base: BaseModel, ids: torch.Tensor) -> torch.Tensor:
    return encode_text(base.text_encoder, ids, base.tokenizer.eos_token_id).hidden


def test_a_folder_at_clip_skip_2_gives_the_layer_before_the_last(folder: Path) -> None:
    whole, skipped = load_base(folder), load_base(folder, clip_skip=2)
    ids = _ids(whole)
    assert torch.equal(_hidden(skipped, ids), _second_to_last(whole, ids))
    assert not torch.allclose(_hidden(skipped, ids), _hidden(whole, ids), atol=1e-3)
    assert (whole.clip_skip, skipped.clip_skip) == (1, 2)
    assert skipped.text_encoder.config.num_hidden_layers == LAYERS - 1


def test_a_file_at_clip_skip_2_gives_the_layer_before_the_last(checkpoint: Path, configs: Path) -> None:
    whole = load_single_file(checkpoint, configs=configs)
    skipped = load_single_file(checkpoint, configs=configs, wanted=Wanted(clip_skip=2))
    ids = _ids(whole)
    assert torch.equal(_hidden(skipped, ids), _second_to_last(whole, ids))
    assert not torch.allclose(_hidden(skipped, ids), _hidden(whole, ids), atol=1e-3)
    assert skipped.clip_skip == 2 and skipped.text_encoder.config.num_hidden_layers == LAYERS - 1


def test_the_bundled_base_has_three_layers_to_choose_from() -> None:
    whole = load_base("toy")
    ids = _ids(whole)
    assert torch.equal(_hidden(load_base("toy", clip_skip=2), ids), _second_to_last(whole, ids))
    assert load_base("toy", clip_skip=3).text_encoder.config.num_hidden_layers == 1


@pytest.mark.parametrize("clip_skip", [0, -1, 3])
def test_a_layer_that_is_not_there_is_refused(folder: Path, clip_skip: int) -> None:
    with pytest.raises(UserError, match=rf"tiny: there is no clip skip {clip_skip} .*choose 1 to 2"):
        load_base(folder, clip_skip=clip_skip)


def test_an_unheard_of_prediction_type_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="no prediction type 'v': choose one of epsilon, v_prediction"):
        load_base(folder, prediction_type="v")


# What was saved without its last layer -----------------------------------------------------------------


def test_a_clip_l_of_eleven_layers_has_clip_skip_2_built_in() -> None:
    assert declared_in_folder({}, width=768, layers=11).clip_skip == 2
    assert declared_in_file({}, (), width=768, layers=10).clip_skip == 3
    # Another depth at another width, or a small model that happens to be as wide, says nothing.
    assert declared_in_folder({}, width=768, layers=12).clip_skip is None
    assert declared_in_folder({}, width=768, layers=6).clip_skip is None
    assert declared_in_folder({}, width=96, layers=3).clip_skip is None


@pytest.mark.parametrize(("clip_skip", "kept"), [(None, 11), (2, 11), (3, 10), (12, 1)])
def test_nothing_more_is_left_out_for_what_is_built_in(clip_skip: int | None, kept: int) -> None:
    declared = declared_in_folder({}, 768, 11)
    settings = Wanted(clip_skip=clip_skip).settle("base", declared, 768, 11)
    assert (settings.clip_skip, settings.layers) == (clip_skip or 2, kept)


def test_a_layer_that_was_left_out_cannot_be_had_back() -> None:
    with pytest.raises(
        UserError, match=r"base: .*clip skip 2 is built in, so that clip skip 1 cannot be had"
    ):
        Wanted(clip_skip=1).settle("base", declared_in_folder({}, 768, 11), 768, 11)


def test_a_folder_of_eleven_layers_loads_as_clip_skip_2(folder: Path, tmp_path: Path) -> None:
    """At CLIP-L's real width, everything else as small as it can be."""
    import shutil

    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from .tiny import text_config

    copy = Path(shutil.copytree(folder, tmp_path / "eleven"))
    sizes = text_config(hidden_size=768, num_hidden_layers=11, intermediate_size=8, num_attention_heads=12)
    CLIPTextModel(CLIPTextConfig(**sizes)).save_pretrained(str(copy / "text_encoder"))
    unet = UNet2DConditionModel.from_config(
        UNet2DConditionModel.load_config(str(copy / "unet")), cross_attention_dim=768
    )
    unet.save_pretrained(str(copy / "unet"))
    base = load_base(copy)
    assert (base.clip_skip, base.declared.clip_skip) == (2, 2)
    assert base.text_encoder.config.num_hidden_layers == 11
    assert load_base(copy, clip_skip=3).text_encoder.config.num_hidden_layers == 10
    with pytest.raises(UserError, match="clip skip 1 cannot be had"):
        load_base(copy, clip_skip=1)


# What the files say --------------------------------------------------------------------------------------

V, V_ZERO = "v_prediction", {"prediction_type": "v_prediction", "zero_terminal_snr": True}
SAYINGS: list[tuple[dict[str, str], tuple[str, ...], dict[str, Any]]] = [
    ({}, (), {}),
    ({"modelspec.prediction_type": "v"}, (), {"prediction_type": V}),
    ({"modelspec.prediction_type": "epsilon"}, (), {"prediction_type": "epsilon"}),
    ({"modelspec.prediction_type": "v-prediction"}, (), {"prediction_type": V}),
    ({"modelspec.prediction_type": "flow"}, (), {}),
    ({"modelspec.predict_key": "v"}, (), {"prediction_type": V}),
    ({"modelspec.predict_key": "epsilon"}, (), {}),  # ComfyUI says it of every SD 1.5
    ({"ss_v_parameterization": "True"}, (), {"prediction_type": V}),
    ({"ss_v_parameterization": "False"}, (), {"prediction_type": "epsilon"}),
    ({"ss_zero_terminal_snr": "True"}, (), {"zero_terminal_snr": True}),
    ({"ss_zero_terminal_snr": "False"}, (), {"zero_terminal_snr": False}),
    ({"ss_zero_terminal_snr": "None"}, (), {}),
    ({}, ("v_pred",), {"prediction_type": V}),
    ({}, ("v_pred", "ztsnr"), V_ZERO),
    ({"modelspec.prediction_type": "epsilon"}, ("v_pred",), {"prediction_type": V}),
    ({"modelspec.encoder_layer": "2"}, (), {"clip_skip": 2}),
    ({"modelspec.encoder_layer": "1"}, (), {"clip_skip": 1}),
    ({"ss_clip_skip": "2"}, (), {"clip_skip": 2}),
    ({"ss_clip_skip": "None"}, (), {}),
    ({"ss_clip_skip": "0"}, (), {}),
    ({"ss_clip_skip": "-2"}, (), {}),
    ({"modelspec.encoder_layer": "77"}, (), {}),
]


@pytest.mark.parametrize(("metadata", "names", "said"), SAYINGS)
def test_what_a_file_says_is_read(
    metadata: dict[str, str], names: tuple[str, ...], said: dict[str, Any]
) -> None:
    assert declared_in_file(metadata, names, 768, 12) == Declared(**said)


def test_what_a_file_says_is_done(tmp_path: Path, weights: dict[str, torch.Tensor], configs: Path) -> None:
    marked = weights | {"v_pred": torch.empty(0), "ztsnr": torch.empty(0)}
    path = tmp_path / "marked.safetensors"
    save_file(marked, str(path), {"modelspec.encoder_layer": "2"})
    base = load_single_file(path, configs=configs)
    assert (base.prediction_type, base.clip_skip, base.zero_terminal_snr) == (V, 2, True)
    assert base.declared == Declared(V, 2, True)
    assert base.scheduler_config["timestep_spacing"] == "trailing"
    assert base.noise_schedule().alphas_cumprod[-1] == 0
    said_otherwise = load_single_file(path, configs=configs, wanted=Wanted(1, "epsilon"))
    assert (said_otherwise.prediction_type, said_otherwise.clip_skip) == ("epsilon", 1)
    assert not said_otherwise.zero_terminal_snr and said_otherwise.declared == base.declared
    assert said_otherwise.noise_schedule().alphas_cumprod[-1] > 0


def test_a_ckpt_speaks_by_its_markers(
    tmp_path: Path, weights: dict[str, torch.Tensor], configs: Path
) -> None:
    torch.save({"state_dict": weights | {"v_pred": torch.empty(0)}}, tmp_path / "model.ckpt")
    base = load_single_file(tmp_path / "model.ckpt", configs=configs)
    assert base.prediction_type == V and base.declared == Declared(prediction_type=V)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_a_folder_speaks_by_its_scheduler(copy: Path) -> None:
    _schedule(copy, prediction_type=V, rescale_betas_zero_snr=True, timestep_spacing="trailing")
    base = load_base(copy)
    assert base.declared == Declared(V, None, True)
    assert base.prediction_type == V and base.zero_terminal_snr
    said_otherwise = load_base(copy, prediction_type="epsilon")
    assert said_otherwise.prediction_type == "epsilon" and said_otherwise.declared == base.declared


def test_a_silent_folder_is_epsilon_at_the_last_layer(copy: Path) -> None:
    _schedule(copy, prediction_type=None, rescale_betas_zero_snr=None)
    base = load_base(copy)
    assert base.declared == Declared()
    assert (base.prediction_type, base.clip_skip, base.zero_terminal_snr) == ("epsilon", 1, False)


def test_a_scheduler_that_says_something_unheard_of_is_refused(copy: Path) -> None:
    _schedule(copy, prediction_type="flow")
    with pytest.raises(UserError, match="copy: its scheduler says that the U-Net predicts 'flow'"):
        load_base(copy)


def test_what_a_fallback_says_holds_where_the_files_are_silent(copy: Path) -> None:
    fallback = Declared(V, 2, True)
    assert load_base(copy, fallback=fallback).prediction_type == "epsilon"  # as its scheduler says
    assert load_base(copy, fallback=fallback).clip_skip == 2
    _schedule(copy, prediction_type=None, rescale_betas_zero_snr=None, timestep_spacing=None)
    silent = load_base(copy, fallback=fallback)
    assert (silent.prediction_type, silent.zero_terminal_snr) == (V, True)
    assert silent.declared == Declared()
    given = load_base(copy, clip_skip=1, prediction_type="sample", fallback=fallback)
    assert (given.prediction_type, given.clip_skip) == ("sample", 1)
    deeper = load_base(copy, fallback=Declared(clip_skip=9))
    assert deeper.clip_skip == 1  # which it does not have: no mistake of the user's


def test_weights_are_the_same_at_every_clip_skip(folder: Path) -> None:
    stored = load_file(folder / "text_encoder" / "model.safetensors")
    kept = load_base(folder, clip_skip=2).text_encoder.state_dict()
    bare = {name.removeprefix("text_model."): weight.float() for name, weight in stored.items()}
    for name, weight in kept.items():
        assert torch.equal(weight, bare[name.removeprefix("text_model.")])
    assert {name for name in bare if ".layers." in name} > {
        name.removeprefix("text_model.") for name in kept if ".layers." in name
    }
