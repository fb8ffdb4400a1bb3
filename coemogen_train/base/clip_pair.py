"""CLIP in two files, as ComfyUI keeps it: images in `clip_vision`, text in `text_encoders`."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from .clip_files import load_file, text_embedder, text_sizes
from .declared import layers_left_out
from .model import freeze, module_fingerprint
from .single_file import empty_weights, fill_weights, read_checkpoint
from .tokenizer import clip_tokenizer
from .vision import ClipEncoder

_WHOLE = "give a whole CLIP instead, such as the folder or model.safetensors of clip-vit-large-patch14"
_TOKENS = 49408
# Below this the projection is what memory happened to hold: a trained one's largest value is near 1.
_SMALLEST, _LARGEST = 1e-4, 1e3


def load_pair(vision: str, text: str, device: str | torch.device, dtype: torch.dtype) -> ClipEncoder:
    """Load the image half from one file and the text half from another.

    The fingerprint stays that of the image half alone, so that features cached by it serve training, which
    needs no text half; `pair_fingerprint` is of both.

    Raises:
        UserError: one of them is no such file, the text half has no projection, or they do not belong
            together.
    """
    for spec, option in ((vision, "--vision"), (text, "--text")):
        if not Path(spec).is_file():
            raise UserError(
                f"{spec}: there is no such file, and with --text both halves are files: see to {option}."
            )
    eye = load_file(Path(vision), device, dtype)
    model = _load_text(Path(text), dtype)
    width = int(model.text_projection.out_features)
    if width != eye.image_width:
        raise UserError(
            f"{text}: this text encoder's captions are {width} wide and {vision}'s pictures "
            f"{eye.image_width} wide, so they cannot be compared: give two halves of one CLIP."
        )
    length = int(model.config.max_position_embeddings)
    frozen = freeze(model, device, dtype)
    both = hashlib.sha256(f"{eye.fingerprint} {module_fingerprint(frozen)}".encode()).hexdigest()
    return replace(
        eye,
        name=f"{eye.name} and {Path(text).stem}",
        text_width=width,
        embed_texts=text_embedder(frozen, clip_tokenizer(length), length),
        pair_fingerprint=both,
    )


def _load_text(path: Path, dtype: torch.dtype) -> Any:
    """A CLIPTextModelWithProjection on the CPU."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    weights = _plain_names(read_checkpoint(path))
    if "text_model.embeddings.token_embedding.weight" not in weights:
        kind = "has open_clip's names" if "token_embedding.weight" in weights else "is no CLIP text encoder"
        raise UserError(f"{path}: this {kind}: {_WHOLE}.")
    sizes = text_sizes(weights)
    if sizes is not None and sizes["vocab_size"] < _TOKENS:
        raise UserError(
            f"{path}: this text encoder knows {sizes['vocab_size']} tokens, not CLIP's {_TOKENS}: {_WHOLE}."
        )
    if sizes is None or not _is_trained(weights["text_projection.weight"]):
        raise UserError(
            f"{path}: this text encoder has no text projection, without which captions cannot be compared "
            f"with pictures: {_WHOLE}."
        )
    if layers_left_out(sizes["hidden_size"], sizes["num_hidden_layers"]):
        raise UserError(
            f"{path}: this text encoder lacks its last layers, so its projection means nothing: {_WHOLE}."
        )
    with empty_weights():
        model: Any = CLIPTextModelWithProjection(CLIPTextConfig(**sizes))
    # transformers 5.6 took `text_model.` out of some names: ask the model how it calls its own.
    if not any(name.startswith("text_model.") for name in model.state_dict()):
        weights = {key.removeprefix("text_model."): value for key, value in weights.items()}
    fill_weights(model, weights, dtype, path, "text encoder", _WHOLE)
    return model


def _plain_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """transformers' names, whatever ComfyUI's saving nodes put before them."""
    for prefix in ("text_encoders.", "clip_l.", "clip_g.", "transformer."):
        weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    if "text_projection" in weights and weights["text_projection"].ndim == 2:
        # Saved by older ComfyUIs, for a product from the other side.
        weights["text_projection.weight"] = weights.pop("text_projection").T.contiguous()
    return weights


def _is_trained(projection: Tensor) -> bool:
    """Whether this is more than what loading leaves where a checkpoint has no projection."""
    plain = projection.detach().float()
    largest = float(plain.abs().max())
    square = plain.shape[0] == plain.shape[1]
    return _SMALLEST < largest < _LARGEST and not (square and torch.equal(plain, torch.eye(len(plain))))
