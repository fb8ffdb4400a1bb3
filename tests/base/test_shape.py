"""A base's shape, read without its weights, is that of the base that is loaded."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from coemogen_train.base import load, single_file
from coemogen_train.base.declared import Declared, Wanted
from coemogen_train.base.load import load_base
from coemogen_train.base.model import BaseModel
from coemogen_train.base.shape import BaseShape, read_base_shape, read_vision_width
from coemogen_train.base.single_file import SD15_CONFIGS, load_single_file
from coemogen_train.base.vision import load_vision
from coemogen_train.errors import UserError

from .checkpoints import checkpoint_shapes, random_weights, write_tiny_configs
from .test_single_file import WRONG
from .tiny import write_base, write_clip

SHARED = (
    "name",
    "architecture",
    "resolution",
    "vae_factor",
    "latent_channels",
    "width",
    "max_length",
    "clip_skip",
    "prediction_type",
    "zero_terminal_snr",
    "declared",
)
# What the header does not tell: only the model itself knows which weights it wants.
ONLY_LOADING_TELLS = {"a hole", "a wrong size"}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_configs(tmp_path_factory.mktemp("configs") / "configs")


@pytest.fixture(scope="module")
def weights(configs: Path) -> dict[str, torch.Tensor]:
    return random_weights(checkpoint_shapes(configs), 0, torch.float16)


def _agrees(found: BaseShape, base: BaseModel) -> None:
    for name in SHARED:
        assert getattr(found, name) == getattr(base, name), name
    for known, real in ((found.unet_config, base.unet), (found.vae_config, base.vae)):
        for key, value in known.items():
            assert key.startswith("_") or real.config[key] == value, key
    for key in ("hidden_size", "num_hidden_layers", "max_position_embeddings", "vocab_size"):
        assert found.text_config[key] == getattr(base.text_encoder.config, key), key
    assert found.assumed is None


@pytest.mark.parametrize("options", [{}, {"clip_skip": 2, "prediction_type": "v_prediction"}])
def test_a_folders_shape_is_what_loads(folder: Path, options: dict[str, Any]) -> None:
    _agrees(read_base_shape(folder, **options), load_base(folder, **options))


@pytest.mark.parametrize("options", [{}, {"clip_skip": 3}, {"fallback": Declared("v_prediction", 2, True)}])
def test_the_toys_shape_is_what_loads(options: dict[str, Any]) -> None:
    _agrees(read_base_shape("toy", **options), load_base("toy", **options))


@pytest.mark.parametrize("metadata", [None, {"modelspec.prediction_type": "v", "ss_clip_skip": "2"}])
@pytest.mark.parametrize("markers", [(), ("v_pred", "ztsnr")])
def test_a_files_shape_is_what_loads(
    tmp_path: Path,
    configs: Path,
    weights: dict[str, torch.Tensor],
    metadata: dict[str, str] | None,
    markers: tuple[str, ...],
) -> None:
    path = tmp_path / "model.safetensors"
    save_file(weights | {name: torch.empty(0) for name in markers}, str(path), metadata)
    _agrees(read_base_shape(path, configs=configs), load_single_file(path, configs=configs))
    wanted = Wanted(1, "epsilon")
    _agrees(
        read_base_shape(path, 1, "epsilon", configs=configs),
        load_single_file(path, configs=configs, wanted=wanted),
    )


def test_no_weight_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise AssertionError("weights were read")

    for module, name in ((load, "read_pretrained"), (single_file, "read_checkpoint")):
        monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr("safetensors.torch.load_file", refuse)
    read_base_shape(folder)
    read_base_shape("toy")
    read_vision_width("toy")


def test_a_full_size_header_takes_well_under_a_second(tmp_path: Path) -> None:
    """Stable Diffusion 1.5's own header, over two gigabytes that a file system need not write."""
    path = tmp_path / "sd15.safetensors"
    write_hollow(path, dict(checkpoint_shapes(SD15_CONFIGS)))
    start = time.perf_counter()
    found = read_base_shape(path)
    assert time.perf_counter() - start < 1
    assert (found.architecture, found.resolution, found.width) == ("stable-diffusion-v1", 512, 768)
    assert (found.resolution_multiple, found.vae_factor, found.max_length) == (64, 8, 77)


def write_hollow(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """A .safetensors file whose weights are a hole: whole by its length, empty on the disk."""
    header, offset = {}, 0
    for name, size in shapes.items():
        end = offset + 2 * torch.Size(size).numel()
        header[name] = {"dtype": "F16", "shape": list(size), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode("utf-8")
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + offset)


def test_reading_a_shape_does_not_wait_for_the_model_libraries(repository: Path) -> None:
    program = (
        "from coemogen_train.base.shape import read_base_shape, read_vision_width; import sys;"
        "read_base_shape('toy'); read_vision_width('toy'); read_vision_width('ViT-L-14');"
        "found = {'diffusers', 'transformers', 'open_clip', 'torchvision'} & set(sys.modules);"
        "assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", sorted(set(WRONG) - ONLY_LOADING_TELLS))
def test_a_checkpoint_of_another_kind_is_refused_in_the_same_words(
    tmp_path: Path, configs: Path, weights: dict[str, torch.Tensor], kind: str
) -> None:
    changes, _ = WRONG[kind]
    path = tmp_path / "wrong.safetensors"
    changed = {key: value for key, value in (weights | changes).items() if value is not None}
    save_file(changed, str(path))
    _refused_alike(path, configs)


def test_stable_diffusion_2_is_refused_in_the_same_words(
    tmp_path: Path, configs: Path, weights: dict[str, torch.Tensor]
) -> None:
    path = tmp_path / "sd2.safetensors"
    wide = {
        key: torch.zeros(weight.shape[0], 1024) if key.endswith("attn2.to_k.weight") else weight
        for key, weight in weights.items()
    }
    save_file(wide, str(path))
    assert "Stable Diffusion 2" in _refused_alike(path, configs)


def _refused_alike(path: Path, configs: Path) -> str:
    with pytest.raises(UserError) as early:
        read_base_shape(path, configs=configs)
    with pytest.raises(UserError) as late:
        load_single_file(path, configs=configs)
    assert str(early.value) == str(late.value)
    return str(early.value)


def test_a_lora_and_a_cut_off_file_are_refused_in_the_same_words(
    tmp_path: Path, configs: Path, weights: dict[str, torch.Tensor]
) -> None:
    lora = tmp_path / "lora.safetensors"
    save_file({"lora_unet_down_blocks_0.lora_down.weight": torch.zeros(2)}, str(lora))
    assert "this is a LoRA" in _refused_alike(lora, configs)
    whole = tmp_path / "whole.safetensors"
    save_file(weights, str(whole))
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:-1000])
    assert "this is no whole safetensors file" in _refused_alike(cut, configs)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_folders_missing_or_cut_off_weights_are_found(copy: Path, part: str) -> None:
    path = next((copy / part).glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=f"{part}.*no whole safetensors file"):
        read_base_shape(copy)
    path.unlink()
    with pytest.raises(UserError, match=rf"{part}: there are no weights here"):
        read_base_shape(copy)


def _change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


@pytest.mark.parametrize(
    ("part", "changes", "words"),
    [
        ("unet", {"_class_name": "SD3Transformer2DModel"}, "its denoiser is a SD3"),
        ("unet", {"cross_attention_dim": 24}, "16 wide but the U-Net listens to 24"),
        ("unet", {"in_channels": 17}, "reads 17 channels instead of 8 .an inpainting"),
        ("text_encoder", {"architectures": ["T5EncoderModel"]}, "its text encoder is a T5EncoderModel"),
    ],
)
def test_a_folder_of_another_kind_is_refused(
    copy: Path, part: str, changes: dict[str, Any], words: str
) -> None:
    _change(copy / part / "config.json", **changes)
    with pytest.raises(UserError, match=words):
        read_base_shape(copy)


def test_an_inpainting_folder_does_not_load_either(copy: Path) -> None:
    from diffusers import UNet2DConditionModel

    config = UNet2DConditionModel.load_config(str(copy / "unet"))
    UNet2DConditionModel.from_config(config, in_channels=17).save_pretrained(str(copy / "unet"))
    with pytest.raises(UserError, match="reads 17 channels instead of 8"):
        load_base(copy)


@pytest.mark.parametrize("spec", ["nothing", "./nothing", "models/nothing.safetensors"])
def test_a_path_to_nothing_is_named(spec: str) -> None:
    with pytest.raises(UserError, match="there is no base model here"):
        read_base_shape(spec)


def test_a_clip_skip_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="there is no clip skip 5"):
        read_base_shape(folder, clip_skip=5)


def test_what_is_not_read_yet_is_taken_for_stable_diffusion_15(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"weights")
    for spec, words in (
        (tmp_path / "model.ckpt", "a .ckpt is not read"),
        ("nobody/nothing", "not on this disk"),
    ):
        found = read_base_shape(spec, clip_skip=2)
        assert found.assumed is not None and words in found.assumed
        assert (found.architecture, found.resolution, found.clip_skip) == ("stable-diffusion-v1", 512, 2)
        assert found.declared == Declared()


def test_an_id_that_was_downloaded_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cached(repo_id: str, allow_patterns: list[str], local_files_only: bool) -> str:
        assert local_files_only and repo_id == "somebody/tiny"
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", cached)
    found = read_base_shape("somebody/tiny")
    assert found.assumed is None and found.name == "somebody/tiny" and found.resolution == 32


def test_a_half_downloaded_id_is_not_an_error(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copy / "unet" / "config.json").unlink()
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(copy))
    assert read_base_shape("somebody/tiny").assumed is not None


# CLIP's width ------------------------------------------------------------------------------------------


def test_the_toys_vision_width_is_what_loads() -> None:
    assert read_vision_width("toy") == load_vision("toy").image_width


def test_a_clip_folders_width_is_what_loads(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip")
    assert read_vision_width(clip) == load_vision(clip).image_width == 12


def test_a_clip_files_width_is_what_loads(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    weights = load_file(write_clip(tmp_path / "clip") / "model.safetensors")
    save_file(
        {key: value for key, value in weights.items() if "vision" in key or "visual" in key},
        str(tmp_path / "v.safetensors"),
    )
    assert (
        read_vision_width(tmp_path / "v.safetensors") == load_vision(tmp_path / "v.safetensors").image_width
    )


@pytest.mark.parametrize(
    "spec", ["ViT-L-14", "ViT-L/14", "ViT-L-14:openai", "ViT-B-32:/models/b.safetensors"]
)
def test_an_open_clip_names_width_is_the_librarys(spec: str) -> None:
    open_clip = pytest.importorskip("open_clip")
    config = open_clip.get_model_config(spec.partition(":")[0].replace("/", "-"))
    assert read_vision_width(spec) == config["embed_dim"]


def test_a_width_that_only_weights_tell_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "clip.bin").write_bytes(b"weights")
    save_file({"visual.conv1.weight": torch.zeros(2)}, str(tmp_path / "open.safetensors"))
    for spec in (tmp_path / "clip.bin", tmp_path / "open.safetensors", "nobody/nothing"):
        assert read_vision_width(spec) is None


def test_a_clip_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"no CLIP here \(open_clip has .*ViT-L-14"):
        read_vision_width("ViT-L-41")
    with pytest.raises(UserError, match="there is no CLIP here"):
        read_vision_width("models/clip_vision.safetensors")
