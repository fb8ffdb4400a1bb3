"""Base models as users have them: a diffusers folder, a Hugging Face id, or one checkpoint file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from .declared import Declared, Wanted, declared_in_folder
from .model import BaseModel, architecture_of, freeze, keep_first_layers
from .tokenizer import read_tokenizer

CHECKPOINT_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
_KINDS = (".json", ".txt", ".safetensors")
_VARIANTS = ["*.fp16.safetensors", "*.non_ema.safetensors", "*.ema.safetensors"]  # copies nobody asked for
_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
BASE_FILES = [f"{part}/*{kind}" for part in _PARTS for kind in _KINDS]


def toyworld_weights() -> Path:
    """The folder of the bundled miniature's weights: `base` and `clip` inside."""
    return Path(__file__).resolve().parents[1] / "toyworld" / "weights"


def load_base(
    spec: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    clip_skip: int | None = None,
    prediction_type: str | None = None,
    fallback: Declared | None = None,
) -> BaseModel:
    """Load a base model, frozen and in evaluation mode.

    Args:
        spec: "toy"; a diffusers folder; a Stable Diffusion 1.5 checkpoint in one .safetensors or .ckpt file
            (read with no network, .ckpt as plain weights only); or a Hugging Face id, "owner/name".
        device, dtype: where and how the weights are kept; float32 unless a GPU's memory says otherwise.
        clip_skip: the layer of the text encoder that is read, counted from the end: 1 is the last; None: as
            the files say.
        prediction_type: "epsilon", "v_prediction" or "sample"; None: as the files say.
        fallback: what holds where nothing is given and the files are silent, as an adapter remembers it;
            without one clip skip 1, epsilon, and a schedule that does not end in pure noise.

    Raises:
        UserError: nothing is there, it is no base model that can be used, or not with that clip skip.
    """
    wanted = Wanted(clip_skip, prediction_type, fallback or Declared())
    path = toyworld_weights() / "base" if str(spec) == "toy" else Path(spec)
    if path.is_dir():
        name = str(spec) if str(spec) == "toy" else path.resolve().name
        return load_folder(path, device, dtype, name, wanted)
    if path.is_file():
        from .single_file import load_single_file

        return load_single_file(path, device, dtype, wanted=wanted)
    if looks_like_hub_id(str(spec)):
        return load_folder(download(str(spec), BASE_FILES), device, dtype, str(spec), wanted)
    raise no_base(path)


def no_base(path: Path) -> UserError:
    """What is said where there is nothing."""
    return UserError(
        f"{path}: there is no base model here: give a diffusers folder, a checkpoint file (.safetensors), "
        "a Hugging Face id such as owner/name, or 'toy'."
    )


def load_folder(
    folder: Path,
    device: str | torch.device,
    dtype: torch.dtype,
    name: str,
    wanted: Wanted,
) -> BaseModel:
    """Load a diffusers folder: `unet`, `vae`, `text_encoder`, `tokenizer` and `scheduler` inside.

    Raises:
        UserError: a part is missing, incomplete, or of another kind of model.
    """
    import diffusers
    import transformers

    check_folder(folder)
    schedule = read_json(folder / "scheduler" / "scheduler_config.json")
    with quiet_loading():
        text_encoder = _read_part(getattr(transformers, text_encoder_class(folder)), folder / "text_encoder")
        width, layers = text_encoder.config.hidden_size, text_encoder.config.num_hidden_layers
        declared = declared_in_folder(schedule, width, layers, folder)
        settings = wanted.settle(folder, declared, width, layers)
        keep_first_layers(text_encoder, settings.layers)
        unet = _read_part(diffusers.UNet2DConditionModel, folder / "unet")
        vae = _read_part(diffusers.AutoencoderKL, folder / "vae")
        tokenizer = read_tokenizer(folder / "tokenizer")
    base = BaseModel(
        unet=freeze(unet, device, dtype),
        vae=freeze(vae, device, dtype),
        text_encoder=freeze(text_encoder, device, dtype),
        tokenizer=tokenizer,
        scheduler_config=settings.schedule(schedule),
        name=name,
        architecture=architecture_of(unet.config),
        clip_skip=settings.clip_skip,
        declared=declared,
    )
    check_widths(folder, unet.config, vae.config, text_encoder.config)
    check_vocabulary(base, folder)
    tokenizer.model_max_length = base.max_length
    return base


def check_widths(
    path: Path, unet: Mapping[str, Any], vae: Mapping[str, Any], text_encoder: Mapping[str, Any] | Any
) -> None:
    """Refuse parts that do not belong together, by their configurations.

    Raises:
        UserError: the U-Net listens to another width than the text encoder's, or reads more than latents.
    """
    width = text_encoder["hidden_size"] if isinstance(text_encoder, Mapping) else text_encoder.hidden_size
    if width != unet["cross_attention_dim"]:
        raise UserError(
            f"{path}: the text encoder is {width} wide but the U-Net listens to "
            f"{unet['cross_attention_dim']}: the parts are of different models; use a base with one "
            "CLIP text encoder, as Stable Diffusion 1.5."
        )
    if unet["in_channels"] != vae["latent_channels"]:
        raise UserError(
            f"{path}: its U-Net reads {unet['in_channels']} channels instead of {vae['latent_channels']} "
            "(an inpainting or editing model): use a base for text to image, as Stable Diffusion 1.5."
        )


def check_vocabulary(base: BaseModel, path: Path) -> None:
    """Refuse a tokenizer that belongs to another text encoder.

    Raises:
        UserError: the text encoder's vocabulary is smaller than the tokenizer's.
    """
    vocabulary = int(base.text_encoder.config.vocab_size)
    if len(base.tokenizer) > vocabulary:
        raise UserError(
            f"{path}: the tokenizer has {len(base.tokenizer)} tokens but the text encoder knows {vocabulary}"
            ": the parts are of different models; give a complete one."
        )


def looks_like_hub_id(spec: str) -> bool:
    """Whether `spec` has the form owner/name, and not that of a file or folder that is missing."""
    parts = spec.split("/")
    plain = all(part and part.strip(".") and "\\" not in part and ":" not in part for part in parts)
    return len(parts) == 2 and plain and not spec.lower().endswith(CHECKPOINT_SUFFIXES)


def download(repo_id: str, patterns: list[str]) -> Path:
    """The local folder of a Hugging Face repository, downloaded if it is not in the cache.

    Raises:
        UserError: there is no such repository, no permission, or no network.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(repo_id, allow_patterns=patterns, ignore_patterns=_VARIANTS))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise UserError(
            f"{repo_id}: this folder does not exist, nor could it be had from Hugging Face under that id: "
            "correct the path, or see to the network, the id and your access token."
        ) from error


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep the progress bars of diffusers and transformers, one per part, out of our own output."""
    import diffusers.utils.logging
    import transformers.utils.logging

    libraries = (diffusers.utils.logging, transformers.utils.logging)
    shown = [library.is_progress_bar_enabled() for library in libraries]
    for library in libraries:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, was_shown in zip(libraries, shown, strict=True):
            if was_shown:
                library.enable_progress_bar()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds one object.

    Raises:
        UserError: the file is missing or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: this file is missing or is no JSON: complete the model's folder."
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: this file does not hold a configuration: complete the model's folder.")
    return content


def read_pretrained(model_class: Any, folder: Path) -> Any:
    """`model_class.from_pretrained` of a local folder, where a weight that is missing is an error.

    (The libraries would start it at random, with a warning, and the pictures would be noise.)

    Raises:
        UserError: the folder's weights cannot be read, do not fit its config, or are incomplete.
    """
    from safetensors import SafetensorError

    try:
        model, report = model_class.from_pretrained(
            str(folder), local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{folder}: the weights here cannot be loaded ({reason}): get the model anew."
        ) from error
    missing = sorted(report.get("missing_keys", ())) + sorted(map(str, report.get("mismatched_keys", ())))
    if missing:
        raise UserError(
            f"{folder}: {len(missing)} weights are missing or of another size, the first is '{missing[0]}': "
            "get the model anew."
        )
    return model


def _read_part(model_class: Any, folder: Path) -> Any:
    # float32 whatever the files hold: transformers 5 would keep float16, transformers 4 would not.
    return torch.nn.Module.to(read_pretrained(model_class, folder), torch.float32)


def check_folder(folder: Path) -> None:
    """Refuse a folder that is no base model, by its files' names and its denoiser's configuration.

    Raises:
        UserError: one sentence that says what it is instead, or what it lacks.
    """
    if (folder / "text_encoder_2").is_dir():
        raise UserError(
            f"{folder}: this model has two text encoders (Stable Diffusion XL or a relative of it), "
            "which is not supported: use a base with one, as Stable Diffusion 1.5."
        )
    missing = [part for part in _PARTS if not (folder / part).is_dir()]
    if missing:
        raise UserError(
            f"{folder}: this is no diffusers folder, it lacks {', '.join(missing)}: give the folder that "
            f"holds {', '.join(_PARTS)}."
        )
    kind = read_json(folder / "unet" / "config.json").get("_class_name", "UNet2DConditionModel")
    if kind != "UNet2DConditionModel":
        raise UserError(
            f"{folder}: its denoiser is a {kind}, not a U-Net: use a base as Stable Diffusion 1.5."
        )


def text_encoder_class(folder: Path) -> str:
    """The name of the text encoder's class in transformers.

    Raises:
        UserError: it is not CLIP's.
    """
    names = read_json(folder / "text_encoder" / "config.json").get("architectures") or ["CLIPTextModel"]
    if names[0] not in ("CLIPTextModel", "CLIPTextModelWithProjection"):
        raise UserError(
            f"{folder}: its text encoder is a {names[0]}, not CLIP's: use a base as Stable Diffusion 1.5."
        )
    return str(names[0])
