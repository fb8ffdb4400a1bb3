"""diffusers folders and ids: what loads, what is refused and in which words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from coemogen_train.base import load
from coemogen_train.base.load import load_base, looks_like_hub_id
from coemogen_train.base.model import BaseModel, architecture_of, module_fingerprint
from coemogen_train.errors import UserError

from .tiny import LENGTH, WIDTH, write_base, write_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base") / "tiny base ü")


@pytest.fixture(scope="module")
def base(folder: Path) -> BaseModel:
    return load_base(str(folder))


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def _change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_a_folder_says_what_it_is(base: BaseModel) -> None:
    assert base.name == "tiny base ü"
    assert (base.resolution, base.vae_factor, base.latent_channels) == (32, 4, 8)
    assert (base.max_length, base.width, base.cross_attention_dim) == (LENGTH, WIDTH, WIDTH)
    assert base.prediction_type == "epsilon" and base.tokenizer.model_max_length == LENGTH
    assert base.architecture == "unet-8x8-16-context-16"


def test_half_precision_on_disk_is_float32_in_memory(base: BaseModel) -> None:
    for part in (base.unet, base.vae, base.text_encoder):
        assert {weight.dtype for weight in part.parameters()} == {torch.float32}


def test_asked_for_another_type_it_has_that(folder: Path) -> None:
    assert load_base(folder, dtype=torch.bfloat16).text_encoder.dtype == torch.bfloat16


def test_everything_is_frozen_and_in_evaluation_mode(base: BaseModel) -> None:
    for part in (base.unet, base.vae, base.text_encoder):
        assert not part.training
        assert not any(weight.requires_grad for weight in part.parameters())


def test_latents_are_the_autoencoders_in_the_unets_scale(base: BaseModel) -> None:
    pixels = torch.rand(2, 3, 32, 32) * 2 - 1
    mean, std = base.encode_latents(pixels)
    with torch.no_grad():
        posterior = base.vae.encode(pixels).latent_dist
        painted = base.vae.decode(posterior.mean).sample
    assert torch.allclose(mean, posterior.mean * 0.7) and torch.allclose(std, posterior.std * 0.7)
    assert torch.allclose(base.decode_latents(mean), (painted / 2 + 0.5).clamp(0, 1), atol=1e-5)


def test_noise_schedule_has_the_bases_betas(base: BaseModel) -> None:
    schedule = base.noise_schedule()
    assert schedule.config.num_train_timesteps == 1000 and schedule.config.prediction_type == "epsilon"
    assert torch.allclose(schedule.betas, torch.linspace(0.0001, 0.02, 1000))


def test_known_widths_have_their_known_name() -> None:
    sizes = {"in_channels": 4, "block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 768}
    assert architecture_of(sizes) == "stable-diffusion-v1"
    assert architecture_of(sizes | {"cross_attention_dim": 1024}) == "stable-diffusion-v2"
    assert architecture_of(sizes | {"in_channels": 9}) == "unet-9x320-640-1280-1280-context-768"


def test_fingerprint_is_of_weights_and_type(folder: Path, base: BaseModel) -> None:
    again = load_base(folder)
    assert again.vae_fingerprint == base.vae_fingerprint
    half = load_base(folder, dtype=torch.bfloat16)
    assert half.vae_fingerprint != base.vae_fingerprint
    with torch.no_grad():
        next(again.vae.parameters())[0] += 1
    assert module_fingerprint(again.vae) != module_fingerprint(base.vae)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_named(copy: Path, part: str) -> None:
    shutil.rmtree(copy / part)
    with pytest.raises(UserError, match=f"copy: this is no diffusers folder, it lacks {part}"):
        load_base(copy)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_missing_weight_is_no_random_weight(copy: Path, part: str) -> None:
    from safetensors.torch import load_file, save_file

    path = next((copy / part).glob("*.safetensors"))
    weights = load_file(path)
    name = sorted(weights)[3]
    save_file({key: value for key, value in weights.items() if key != name}, path, {"format": "pt"})
    with pytest.raises(UserError, match=rf"{part}: .*missing.*get the model anew"):
        load_base(copy)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_damaged_weights_are_named(copy: Path, part: str) -> None:
    path = next((copy / part).glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=part):
        load_base(copy)


def test_parts_of_different_models_are_told_apart(copy: Path, tmp_path: Path) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel

    from .tiny import text_config

    wide = CLIPTextModel(CLIPTextConfig(**text_config(hidden_size=24)))
    wide.save_pretrained(str(copy / "text_encoder"))
    with pytest.raises(UserError, match="text encoder is 24 wide but the U-Net listens to 16"):
        load_base(copy)


def test_a_model_with_two_text_encoders_is_refused(copy: Path) -> None:
    (copy / "text_encoder_2").mkdir()
    with pytest.raises(UserError, match="copy: this model has two text encoders"):
        load_base(copy)


def test_another_denoiser_is_refused(copy: Path) -> None:
    _change(copy / "unet" / "config.json", _class_name="SD3Transformer2DModel")
    with pytest.raises(UserError, match="its denoiser is a SD3Transformer2DModel"):
        load_base(copy)


def test_another_text_encoder_is_refused(copy: Path) -> None:
    _change(copy / "text_encoder" / "config.json", architectures=["T5EncoderModel"])
    with pytest.raises(UserError, match="its text encoder is a T5EncoderModel"):
        load_base(copy)


def test_a_broken_config_is_named(copy: Path) -> None:
    (copy / "scheduler" / "scheduler_config.json").write_text("[", encoding="utf-8")
    with pytest.raises(UserError, match=r"scheduler_config\.json"):
        load_base(copy)


def test_a_clip_folder_is_no_base(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="this is no diffusers folder"):
        load_base(write_clip(tmp_path / "clip"))


@pytest.mark.parametrize(
    "spec", ["models/nothing.safetensors", "./nothing", "nothing", "C:\\models\\nothing.ckpt"]
)
def test_a_path_to_nothing_is_named(spec: str) -> None:
    with pytest.raises(UserError, match="there is no base model here"):
        load_base(spec)


def test_an_id_without_network_says_so() -> None:
    with pytest.raises(UserError, match=r"nobody/nothing: .*see to the network"):
        load_base("nobody/nothing")


def test_hub_ids_are_told_from_paths() -> None:
    assert looks_like_hub_id("stable-diffusion-v1-5/stable-diffusion-v1-5")
    for path in (
        "model",
        "a/b/c",
        "/a/b",
        "./a",
        "../a",
        "a/b.safetensors",
        "a/b.CKPT",
        "C:/a",
        "a\\b",
        "a/",
    ):
        assert not looks_like_hub_id(path), path


def test_the_toy_is_one_folder_more(monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "base")
    monkeypatch.setattr(load, "toyworld_weights", lambda: tmp_path)
    assert load_base("toy").name == "toy"


def test_loading_leaves_progress_bars_as_they_were(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    load_base(folder)
    assert logging.is_progress_bar_enabled() == shown
    assert "%|" not in capfd.readouterr().err
