"""One-file checkpoints: every weight at its place, no network, a clear word about files of another kind."""

from __future__ import annotations

import pickle
import socket
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from coemogen_train.base.load import load_base
from coemogen_train.base.model import BaseModel
from coemogen_train.base.single_file import SD15_CONFIGS, load_single_file
from coemogen_train.errors import UserError

from .checkpoints import (
    TEXT,
    UNET,
    VAE,
    checkpoint_shapes,
    random_weights,
    write_random_sd15,
    write_tiny_configs,
)

# Pairs that published tables of Stable Diffusion's names give.
KNOWN_PAIRS = {
    "time_embed.2.weight": "time_embedding.linear_2.weight",
    "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    ),
    "input_blocks.3.0.op.weight": "down_blocks.0.downsamplers.0.conv.weight",
    "input_blocks.4.0.skip_connection.weight": "down_blocks.1.resnets.0.conv_shortcut.weight",
    "middle_block.1.proj_in.weight": "mid_block.attentions.0.proj_in.weight",
    "output_blocks.2.1.conv.weight": "up_blocks.0.upsamplers.0.conv.weight",
    "output_blocks.11.1.transformer_blocks.0.ff.net.0.proj.weight": (
        "up_blocks.3.attentions.2.transformer_blocks.0.ff.net.0.proj.weight"
    ),
    "out.2.bias": "conv_out.bias",
}


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_configs(tmp_path_factory.mktemp("tiny") / "configs")


@pytest.fixture(scope="module")
def weights(configs: Path) -> dict[str, torch.Tensor]:
    # float32, so that no two weights are equal by rounding
    return random_weights(checkpoint_shapes(configs), 0, torch.float32)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, weights: dict[str, torch.Tensor]) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    save_file(weights, str(path))
    return path


@pytest.fixture(scope="module")
def base(checkpoint: Path, configs: Path) -> BaseModel:
    return load_single_file(checkpoint, configs=configs)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def _saved(path: Path, weights: dict[str, torch.Tensor], **changes: torch.Tensor | None) -> Path:
    changed = {key: value for key, value in (weights | changes).items() if value is not None}
    save_file(changed, str(path))
    return path


def test_sd15_has_the_published_number_of_weights() -> None:
    shapes = dict(checkpoint_shapes(SD15_CONFIGS))
    counts = [sum(name.startswith(part) for name in shapes) for part in (UNET, VAE, TEXT)]
    assert counts == [686, 248, 196]
    numbers = sum(torch.Size(shape).numel() for name, shape in shapes.items() if name.startswith(UNET))
    assert numbers == 859_520_964


def test_sd15_configs_have_the_shapes_of_a_checkpoint() -> None:
    from accelerate import init_empty_weights
    from diffusers import AutoencoderKL, UNet2DConditionModel

    with init_empty_weights():
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(str(SD15_CONFIGS / "unet")))
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(str(SD15_CONFIGS / "vae")))
    shapes = dict(checkpoint_shapes(SD15_CONFIGS))
    for part, module in ((UNET, unet), (VAE, vae)):
        expected = sorted(
            torch.Size(shape).numel() for name, shape in shapes.items() if name.startswith(part)
        )
        assert sorted(weight.numel() for weight in module.state_dict().values()) == expected


def test_every_weight_lands_in_one_place(base: BaseModel, weights: dict[str, torch.Tensor]) -> None:
    def contents(tensors: Any) -> list[bytes]:
        return sorted(tensor.contiguous().numpy().tobytes() for tensor in tensors)

    for part, module in ((UNET, base.unet), (VAE, base.vae), (TEXT, base.text_encoder)):
        stored = [tensor for name, tensor in weights.items() if name.startswith(part)]
        assert contents(module.state_dict().values()) == contents(stored)


@pytest.mark.parametrize("original", KNOWN_PAIRS)
def test_known_weights_land_where_they_belong(
    base: BaseModel, weights: dict[str, torch.Tensor], original: str
) -> None:
    assert torch.equal(base.unet.state_dict()[KNOWN_PAIRS[original]], weights[UNET + original])


def test_it_can_see_read_and_paint(base: BaseModel) -> None:
    assert base.name == "model" and base.prediction_type == "epsilon" and base.resolution == 64
    assert base.max_length == base.tokenizer.model_max_length == 77
    mean, std = base.encode_latents(torch.zeros(2, 3, 64, 64))
    assert mean.shape == std.shape == (2, 4, 8, 8)
    ids = base.tokenizer(["a dog"], padding="max_length", return_tensors="pt").input_ids
    hidden = base.text_encoder(input_ids=ids).last_hidden_state
    noise = base.unet(mean[:1], 10, encoder_hidden_states=hidden).sample
    pixels = base.decode_latents(noise)
    assert pixels.shape == (1, 3, 64, 64) and pixels.isfinite().all()


def test_half_precision_files_are_loaded_exactly(tmp_path: Path, configs: Path) -> None:
    weights = write_random_sd15(tmp_path / "half.safetensors", configs)
    base = load_single_file(tmp_path / "half.safetensors", configs=configs)
    assert base.dtype == torch.float32
    assert torch.equal(
        base.unet.state_dict()["conv_in.weight"], weights[f"{UNET}input_blocks.0.0.weight"].float()
    )


def test_ckpt_equals_safetensors(
    tmp_path: Path, base: BaseModel, configs: Path, weights: dict[str, torch.Tensor]
) -> None:
    torch.save({"state_dict": weights, "global_step": 7}, tmp_path / "model.ckpt")
    ours = load_single_file(tmp_path / "model.ckpt", configs=configs)
    assert ours.vae_fingerprint == base.vae_fingerprint
    for name, weight in ours.unet.state_dict().items():
        assert torch.equal(weight, base.unet.state_dict()[name])


@pytest.mark.skipif(not hasattr(torch.serialization, "safe_globals"), reason="needs torch 2.5")
def test_ckpt_with_a_trainers_bookkeeping_is_read(
    tmp_path: Path, configs: Path, weights: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy

    name = "pytorch_lightning.callbacks.model_checkpoint"
    kind = type("ModelCheckpoint", (), {"__module__": name})
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
    monkeypatch.setattr(sys.modules[name], "ModelCheckpoint", kind, raising=False)
    kept = {"callbacks": {kind: {"best": numpy.float64(0.5)}}, "state_dict": weights}
    torch.save(kept, tmp_path / "old.ckpt")
    monkeypatch.undo()  # the trainer's own library is not there when the file is read
    assert load_single_file(tmp_path / "old.ckpt", configs=configs).name == "old"


def test_old_names_of_the_text_encoder_are_read(
    tmp_path: Path, base: BaseModel, configs: Path, weights: dict[str, torch.Tensor]
) -> None:
    bare = {key.replace(".transformer.text_model.", ".transformer."): value for key, value in weights.items()}
    bare["cond_stage_model.transformer.embeddings.position_ids"] = torch.arange(77)[None]
    old = load_single_file(_saved(tmp_path / "old.safetensors", bare), configs=configs)
    for name, weight in old.text_encoder.state_dict().items():
        assert torch.equal(weight, base.text_encoder.state_dict()[name])


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path(tmp_path / "ran").touch, ())

    for name, write in (
        ("zip.ckpt", torch.save),
        ("raw.ckpt", lambda content, path: path.write_bytes(pickle.dumps(content))),
    ):
        write({"state_dict": Code()}, tmp_path / name)
        with pytest.raises(UserError, match=r"ckpt.*could run any code: use the model's \.safetensors"):
            load_base(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["a.safetensors", "b.ckpt"])
@pytest.mark.parametrize("content", [b"", b"no model at all", b"\xff" * 4096])
def test_a_file_that_is_no_model_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        load_base(tmp_path / name)


def test_a_truncated_file_is_named(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "half.safetensors").write_bytes(checkpoint.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"half\.safetensors: this is no whole safetensors file"):
        load_base(tmp_path / "half.safetensors")


WRONG = {
    "sdxl": ({f"{UNET}label_emb.0.0.weight": torch.zeros(2, 2)}, "Stable Diffusion XL"),
    "inpainting": ({f"{UNET}input_blocks.0.0.weight": torch.zeros(8, 9, 3, 3)}, "9 channels"),
    "wider": ({f"{UNET}input_blocks.0.0.weight": torch.zeros(12, 4, 3, 3)}, "another architecture"),
    "another denoiser": ({f"{UNET}input_blocks.0.0.weight": None}, "not Stable Diffusion's U-Net"),
    "no text": ({f"{TEXT}embeddings.token_embedding.weight": None}, "no CLIP text encoder"),
    "wide text": ({f"{TEXT}embeddings.token_embedding.weight": torch.zeros(49408, 24)}, "of width 24"),
    "no autoencoder": ({f"{VAE}decoder.conv_in.weight": None}, "no autoencoder"),
    "a hole": ({f"{UNET}out.2.bias": None}, "U-Net lacks 1 of \\d+ weights"),
    "a wrong size": ({f"{VAE}quant_conv.bias": torch.zeros(3)}, "autoencoder has in another size 1 of \\d+"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_checkpoint_of_another_kind_is_told_apart(
    tmp_path: Path, configs: Path, weights: dict[str, torch.Tensor], kind: str
) -> None:
    changes, words = WRONG[kind]
    path = _saved(tmp_path / "wrong.safetensors", weights, **changes)
    with pytest.raises(UserError, match=rf"wrong\.safetensors.*{words}.*use a Stable Diffusion 1\.5"):
        load_single_file(path, configs=configs)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("lora_unet_down_blocks_0.lora_down.weight", "a LoRA"),
        ("vision_model.embeddings.class_embedding", "a CLIP vision model"),
        ("something.weight", "something else"),
    ],
)
def test_a_file_of_another_folder_is_told_apart(tmp_path: Path, name: str, kind: str) -> None:
    path = _saved(tmp_path / "other.safetensors", {name: torch.zeros(2)})
    with pytest.raises(UserError, match=rf"other\.safetensors: this is {kind}"):
        load_base(path)


@pytest.mark.slow
def test_full_width_checkpoint_loads(tmp_path: Path) -> None:
    write_random_sd15(tmp_path / "full.safetensors")
    base = load_base(tmp_path / "full.safetensors", dtype=torch.float16)
    assert base.architecture == "stable-diffusion-v1" and base.resolution == 512
    assert (base.width, base.max_length, base.latent_channels, base.vae_factor) == (768, 77, 4, 8)
