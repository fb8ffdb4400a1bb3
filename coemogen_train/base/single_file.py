"""Stable Diffusion 1.5 in one file, as ComfyUI keeps it, loaded with no network.

The sizes come from `configs/sd15`, the renaming of U-Net and autoencoder weights from diffusers, the
tokenizer from open_clip's vocabulary.
"""

from __future__ import annotations

import contextlib
import pickle
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..errors import UserError
from .declared import Wanted, declared_in_file, layers_left_out
from .header import Shaped, broken_file, count_layers, read_header
from .load import check_vocabulary, check_widths, read_json
from .model import BaseModel, architecture_of, freeze
from .tokenizer import clip_tokenizer

SD15_CONFIGS = Path(__file__).resolve().parent / "configs" / "sd15"

_UNET, _VAE, _TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
_TOKENS = "embeddings.token_embedding.weight"
_USE = "use a Stable Diffusion 1.5 checkpoint"
AnyTensor = TypeVar("AnyTensor", bound=Shaped)  # of weights that are read, or known by their header


def load_single_file(
    path: Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    configs: Path = SD15_CONFIGS,
    wanted: Wanted = Wanted(),  # noqa: B008
) -> BaseModel:
    """Load a checkpoint file whose names are those of the original Stable Diffusion code.

    Args:
        path: .safetensors; or .ckpt, of which only the weights are read.
        configs: folder with the parts' configurations in diffusers' layout.
        wanted: clip skip and prediction type.

    Raises:
        UserError: the file cannot be read, is no checkpoint of this architecture, lacks weights, or has not
            so many layers as the clip skip needs.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
    from transformers import CLIPTextConfig, CLIPTextModel

    weights, metadata = read_checkpoint(path), read_metadata(path)
    sizes = {part: read_json(configs / part / "config.json") for part in ("unet", "vae", "text_encoder")}
    check_architecture(path, weights, sizes["unet"], sizes["text_encoder"])
    width, layers = text_sizes(weights, sizes["text_encoder"])
    declared = declared_in_file(metadata, weights, width, layers)
    settings = wanted.settle(path, declared, width, layers)
    sizes["text_encoder"]["num_hidden_layers"] = settings.layers

    with empty_weights():
        unet = UNet2DConditionModel.from_config(sizes["unet"])
        vae = AutoencoderKL.from_config(sizes["vae"])
        text_encoder = CLIPTextModel(CLIPTextConfig(**sizes["text_encoder"]))
    fill_weights(unet, convert_ldm_unet_checkpoint(_only(weights, _UNET), unet.config), dtype, path, "U-Net")
    fill_weights(
        vae, convert_ldm_vae_checkpoint(_only(weights, _VAE), vae.config), dtype, path, "autoencoder"
    )
    fill_weights(text_encoder, _text_weights(weights, text_encoder), dtype, path, "text encoder")

    base = BaseModel(
        unet=freeze(unet, device, dtype),
        vae=freeze(vae, device, dtype),
        text_encoder=freeze(text_encoder, device, dtype),
        tokenizer=clip_tokenizer(int(text_encoder.config.max_position_embeddings)),
        scheduler_config=settings.schedule(read_json(configs / "scheduler" / "scheduler_config.json")),
        name=path.stem,
        architecture=architecture_of(unet.config),
        clip_skip=settings.clip_skip,
        declared=declared,
    )
    check_widths(path, sizes["unet"], sizes["vae"], sizes["text_encoder"])
    check_vocabulary(base, path)
    return base


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .ckpt file, on the CPU and in the types they are stored in.

    Code that a pickle may carry is never run (`weights_only=True`).

    Raises:
        UserError: the file is neither, is damaged, or holds more than weights.
    """
    if path.suffix.lower() == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(str(path))
        except (SafetensorError, OSError, ValueError) as error:
            raise broken_file(path, error) from error
    try:
        with _inert_bookkeeping(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch on old pickle protocols; we say it ourselves
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: this file holds more than weights, or is none, and is not opened, since it could run "
            "any code: use the model's .safetensors file."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: this is no whole checkpoint file: download or copy it again.") from error
    content = content.get("state_dict", content) if isinstance(content, dict) else {}
    return {
        key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)
    }


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a .safetensors file; other files have none."""
    return read_header(path)[1] if path.suffix.lower() == ".safetensors" else {}


def check_architecture(
    path: Path, weights: Mapping[str, Shaped], unet: Mapping[str, Any], text_encoder: Mapping[str, Any]
) -> None:
    """Refuse, before anything is built, a file that is not what `unet` and `text_encoder` describe.

    Raises:
        UserError: one sentence that says what the file is instead, as far as its names tell.
    """
    if not any(key.startswith(_UNET) for key in weights):
        raise UserError(f"{path}: this is {_guess_other(weights)}, not a whole checkpoint: {_USE}.")
    if f"{_UNET}label_emb.0.0.weight" in weights or any(key.startswith("conditioner.") for key in weights):
        raise UserError(f"{path}: this is a Stable Diffusion XL checkpoint, which is not supported: {_USE}.")

    stem = weights.get(f"{_UNET}input_blocks.0.0.weight")
    if stem is None:
        raise UserError(f"{path}: its denoiser is not Stable Diffusion's U-Net: {_USE}.")
    if stem.shape[1] != unet["in_channels"]:
        raise UserError(
            f"{path}: its U-Net reads {stem.shape[1]} channels instead of {unet['in_channels']} "
            f"(an inpainting or editing model): {_USE} for text to image."
        )
    contexts = (w.shape[1] for key, w in weights.items() if key.endswith("attn2.to_k.weight"))
    context = next(contexts, None)
    if context != unet["cross_attention_dim"] or stem.shape[0] != unet["block_out_channels"][0]:
        kind = "a Stable Diffusion 2 checkpoint" if context == 1024 else "of another architecture"
        raise UserError(
            f"{path}: this is {kind} (U-Net {stem.shape[0]} wide, text {context} wide; expected "
            f"{unet['block_out_channels'][0]} and {unet['cross_attention_dim']}): {_USE}."
        )
    tokens = _text_names(weights).get(_TOKENS)
    if tokens is None:
        raise UserError(f"{path}: this checkpoint carries no CLIP text encoder: {_USE} that has one.")
    if tuple(tokens.shape) != (text_encoder["vocab_size"], text_encoder["hidden_size"]):
        raise UserError(
            f"{path}: its text encoder has {tokens.shape[0]} tokens of width {tokens.shape[1]}, expected "
            f"{text_encoder['vocab_size']} of width {text_encoder['hidden_size']}: {_USE} with its own CLIP."
        )
    if f"{_VAE}decoder.conv_in.weight" not in weights:
        raise UserError(f"{path}: this checkpoint carries no autoencoder (VAE): {_USE} that has one.")


def text_sizes(weights: Mapping[str, Shaped], config: Mapping[str, Any]) -> tuple[int, int]:
    """(width, layers) of the text encoder in a file; `config` tells them, unless layers were left out."""
    width, whole = int(config["hidden_size"]), int(config["num_hidden_layers"])
    layers = count_layers(_text_names(weights), "encoder.layers.")
    return width, layers if layers_left_out(width, layers) else whole


def _guess_other(weights: Mapping[str, Shaped]) -> str:
    """What a file without a U-Net may be, by the names people meet in their model folders."""
    starts = {
        "lora_": "a LoRA",
        "vision_model.": "a CLIP vision model",
        "text_model.": "a CLIP text encoder",
        "down_blocks.": "a U-Net alone",
        "encoder.conv_in": "an autoencoder alone",
        "double_blocks.": "a Flux model",
    }
    for start, kind in starts.items():
        if any(key.startswith(start) for key in weights):
            return kind
    return "something else" if weights else "a file without weights"


def _only(weights: Mapping[str, AnyTensor], prefix: str) -> dict[str, AnyTensor]:
    return {key: value for key, value in weights.items() if key.startswith(prefix)}


def _text_names(weights: Mapping[str, AnyTensor]) -> dict[str, AnyTensor]:
    """The text encoder's weights under bare names; some old files leave out the `text_model.` between."""
    named = {key.removeprefix(_TEXT): value for key, value in _only(weights, _TEXT).items()}
    return {key.removeprefix("text_model."): value for key, value in named.items()}


def _text_weights(weights: Mapping[str, Tensor], text_encoder: nn.Module) -> dict[str, Tensor]:
    # transformers 5.6 took `text_model.` out of CLIPTextModel's names: ask the model how it calls its own.
    names = text_encoder.state_dict()
    prefix = "text_model." if any(name.startswith("text_model.") for name in names) else ""
    renamed = {f"{prefix}{key}": value for key, value in _text_names(weights).items()}
    return {key: value for key, value in renamed.items() if not key.endswith("position_ids")}


def fill_weights(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    dtype: torch.dtype,
    path: Path,
    part: str,
    advice: str = _USE,
) -> None:
    """Give `model`, whose weights are empty, those of the file; what it does not know is left out.

    Raises:
        UserError: a weight is missing or of another size; says which, and ends in `advice`.
    """
    expected = model.state_dict()
    missing = sorted(set(expected) - set(weights))
    wrong = sorted(key for key in expected if key in weights and weights[key].shape != expected[key].shape)
    if missing or wrong:
        first, fault = (missing[0], "lacks") if missing else (wrong[0], "has in another size")
        raise UserError(
            f"{path}: its {part} {fault} {len(missing) or len(wrong)} of {len(expected)} weights, the first "
            f"is '{first}': the file is incomplete or of another architecture; {advice}."
        )
    # Copied, so that no weight stays a view into the file, which may be moved or written anew meanwhile.
    filled = {key: weights[key].to(dtype, copy=True) for key in expected}
    model.load_state_dict(filled, assign=True)


@contextlib.contextmanager
def empty_weights() -> Iterator[None]:
    """Modules made inside have no memory for weights yet, but real buffers (token positions)."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        yield


class _Inert:
    """Takes the place of a pickled object that is not a weight; keeps nothing and does nothing."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


@contextlib.contextmanager
def _inert_bookkeeping() -> Iterator[None]:
    """Let the loader pass over what training left in the first .ckpt files beside the weights.

    These names are refused by `weights_only` otherwise. They are answered by classes that do nothing, so
    nothing they name is imported or run. torch before 2.5 cannot do this, and such a file is then refused.
    """
    names = (
        ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),
    )
    safe_globals = getattr(torch.serialization, "safe_globals", None)
    if safe_globals is None:
        yield
        return
    with safe_globals([type(name, (_Inert,), {"__module__": module}) for module, name in names]):
        yield
