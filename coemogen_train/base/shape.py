"""A base model's sizes and settings without its weights: what a plan needs, in well under a second."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from .clip_files import no_clip
from .declared import Declared, Wanted, declared_in_file, declared_in_folder
from .header import read_header
from .load import (
    BASE_FILES,
    check_folder,
    check_widths,
    looks_like_hub_id,
    no_base,
    read_json,
    text_encoder_class,
    toyworld_weights,
)
from .model import architecture_of
from .single_file import SD15_CONFIGS, check_architecture, text_sizes

_PARTS = ("unet", "vae", "text_encoder")
# What the libraries take where a configuration says nothing.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "unet": {
        "in_channels": 4,
        "block_out_channels": [320, 640, 1280, 1280],
        "cross_attention_dim": 1280,
        "sample_size": 64,
    },
    "vae": {"block_out_channels": [64], "latent_channels": 4, "scaling_factor": 0.18215},
    "text_encoder": {
        "vocab_size": 49408,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "max_position_embeddings": 77,
    },
}


@dataclass(frozen=True)
class BaseShape:
    """What is known of a base model before its weights are read; equal to what `load_base` will give.

    Attributes:
        name, architecture, prediction_type, clip_skip, zero_terminal_snr, declared: as of `BaseModel`.
        unet_config, vae_config, text_config: the parts' configurations; of the text encoder's layers those
            that are kept.
        assumed: why the sizes are taken to be Stable Diffusion 1.5's, as a clause; None: they are known.
    """

    name: str
    architecture: str
    unet_config: Mapping[str, Any]
    vae_config: Mapping[str, Any]
    text_config: Mapping[str, Any]
    declared: Declared
    prediction_type: str
    clip_skip: int
    zero_terminal_snr: bool
    assumed: str | None = None

    @property
    def resolution(self) -> int:
        """Side of the square pictures the U-Net was trained on, in pixels."""
        size = self.unet_config["sample_size"]
        return int(size if isinstance(size, int) else size[0]) * self.vae_factor

    @property
    def vae_factor(self) -> int:
        """Pixels per latent, along one side."""
        return 2 ** (len(self.vae_config["block_out_channels"]) - 1)

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        return int(self.unet_config["in_channels"])

    @property
    def width(self) -> int:
        """Width of a token embedding, and of the states that the U-Net listens to."""
        return int(self.text_config["hidden_size"])

    @property
    def max_length(self) -> int:
        """Tokens in a prompt, BOS and EOS included."""
        return int(self.text_config["max_position_embeddings"])

    @property
    def resolution_multiple(self) -> int:
        """What a side in pixels must be a multiple of, so that every level of the U-Net halves it evenly."""
        return self.vae_factor * 2 ** (len(self.unet_config["block_out_channels"]) - 1)


def read_base_shape(
    spec: str | Path,
    clip_skip: int | None = None,
    prediction_type: str | None = None,
    fallback: Declared | None = None,
    configs: Path = SD15_CONFIGS,
) -> BaseShape:
    """Read what a base model is, from configurations and headers; no weights, no network.

    Args:
        spec, clip_skip, prediction_type, fallback: as of `load_base`.
        configs: what a checkpoint in one file, or a model that is not here yet, is measured by.

    Raises:
        UserError: what `load_base` raises, as far as names, shapes and configurations tell.
    """
    wanted = Wanted(clip_skip, prediction_type, fallback or Declared())
    path = toyworld_weights() / "base" if str(spec) == "toy" else Path(spec)
    if path.is_dir():
        return _folder_shape(path, str(spec) if str(spec) == "toy" else path.resolve().name, wanted)
    if path.is_file():
        return _file_shape(path, wanted, configs)
    if not looks_like_hub_id(str(spec)):
        raise no_base(path)
    if (folder := _cached_repository(str(spec))) is not None:
        return _folder_shape(folder, str(spec), wanted)
    why = "it is not on this disk yet, so that those of Stable Diffusion 1.5 are taken"
    return _assumed_shape(str(spec), path, wanted, configs, why)


def read_vision_width(spec: str | Path) -> int | None:
    """V, the width of the image embeddings of a CLIP; None where nothing but its weights tells.

    Args:
        spec: as of `load_vision`.

    Raises:
        UserError: nothing is there, or a file or folder that is damaged.
    """
    path = toyworld_weights() / "clip" if str(spec) == "toy" else Path(spec)
    if path.is_dir():
        width = read_json(path / "config.json").get("projection_dim", 512)  # what transformers takes
        return width if isinstance(width, int) else None
    if path.is_file():
        if path.suffix.lower() != ".safetensors":
            return None
        stored, _ = read_header(path)
        projection = stored.get("visual_projection.weight")
        return None if projection is None else projection.shape[0]
    architecture = str(spec).partition(":")[0].replace("/", "-")
    package = importlib.util.find_spec("open_clip")  # found, not imported: that takes seconds
    if package is not None and package.origin is not None:
        config = Path(package.origin).parent / "model_configs" / f"{architecture}.json"
        if config.is_file():
            width = read_json(config).get("embed_dim")
            return width if isinstance(width, int) else None
    if looks_like_hub_id(str(spec)):
        folder = _cached_folder(str(spec), ["*.json"])
        return (
            read_vision_width(folder) if folder is not None and (folder / "config.json").is_file() else None
        )
    raise no_clip(str(spec))


def _folder_shape(folder: Path, name: str, wanted: Wanted) -> BaseShape:
    check_folder(folder)
    text_encoder_class(folder)
    sizes = _read_configs(folder)
    check_widths(folder, sizes["unet"], sizes["vae"], sizes["text_encoder"])
    for part in _PARTS:
        _check_weights(folder / part)
    schedule = read_json(folder / "scheduler" / "scheduler_config.json")
    width, layers = _text_sizes(sizes)
    return _shape(name, sizes, declared_in_folder(schedule, width, layers, folder), wanted, folder)


def _file_shape(path: Path, wanted: Wanted, configs: Path) -> BaseShape:
    if path.suffix.lower() != ".safetensors":
        why = (
            f"a {path.suffix or 'file of this kind'} is not read before training starts, so that those of "
            "Stable Diffusion 1.5 are taken"
        )
        return _assumed_shape(path.stem, path, wanted, configs, why)
    sizes = _read_configs(configs)
    stored, metadata = read_header(path)
    check_architecture(path, stored, sizes["unet"], sizes["text_encoder"])
    width, layers = text_sizes(stored, sizes["text_encoder"])
    sizes["text_encoder"]["num_hidden_layers"] = layers
    return _shape(path.stem, sizes, declared_in_file(metadata, stored, width, layers), wanted, path)


def _assumed_shape(name: str, path: Path, wanted: Wanted, configs: Path, why: str) -> BaseShape:
    return _shape(name, _read_configs(configs), Declared(), wanted, path, why)


def _shape(
    name: str,
    sizes: dict[str, dict[str, Any]],
    declared: Declared,
    wanted: Wanted,
    path: Path,
    assumed: str | None = None,
) -> BaseShape:
    settings = wanted.settle(path, declared, *_text_sizes(sizes))
    return BaseShape(
        name=name,
        architecture=architecture_of(sizes["unet"]),
        unet_config=sizes["unet"],
        vae_config=sizes["vae"],
        text_config=sizes["text_encoder"] | {"num_hidden_layers": settings.layers},
        declared=declared,
        prediction_type=settings.prediction_type,
        clip_skip=settings.clip_skip,
        zero_terminal_snr=settings.zero_terminal_snr,
        assumed=assumed,
    )


def _read_configs(folder: Path) -> dict[str, dict[str, Any]]:
    return {part: _DEFAULTS[part] | read_json(folder / part / "config.json") for part in _PARTS}


def _text_sizes(sizes: Mapping[str, Mapping[str, Any]]) -> tuple[int, int]:
    return int(sizes["text_encoder"]["hidden_size"]), int(sizes["text_encoder"]["num_hidden_layers"])


def _check_weights(folder: Path) -> None:
    """Refuse a part without weights, or whose file is cut off."""
    named = [folder / f"{stem}.safetensors" for stem in ("model", "diffusion_pytorch_model")]
    whole = [path for path in named if path.is_file()]
    for path in whole:
        read_header(path)
    if not _has_weights(folder):
        raise UserError(f"{folder}: there are no weights here: get the model anew.")


def _has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors")) or any(folder.glob("*.bin"))


def _cached_repository(repo_id: str) -> Path | None:
    """The folder of a Hugging Face repository, where all of it was downloaded before.

    One whose download was broken off is taken for one that is not there: `load_base` will finish it.
    """
    folder = _cached_folder(repo_id, BASE_FILES)
    needed = [f"{part}/config.json" for part in _PARTS] + ["scheduler/scheduler_config.json"]
    if folder is None or not all((folder / name).is_file() for name in needed):
        return None
    return folder if all(_has_weights(folder / part) for part in _PARTS) else None


def _cached_folder(repo_id: str, patterns: list[str]) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(repo_id, allow_patterns=patterns, local_files_only=True))
    except (OSError, ValueError, HFValidationError):
        return None
