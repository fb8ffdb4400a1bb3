"""CLIP as users have it: a transformers folder, one `clip_vision` file, or an open_clip name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from .header import count_layers
from .load import CHECKPOINT_SUFFIXES, download, looks_like_hub_id, quiet_loading, read_json, read_pretrained
from .load import toyworld_weights as _toyworld_weights
from .model import freeze
from .single_file import empty_weights, fill_weights, read_checkpoint
from .tokenizer import clip_tokenizer, read_tokenizer
from .vision import CLIP_MEAN, CLIP_STD, ClipEncoder, ImageTransform

# Attention heads of the published CLIP image towers, by width: the weights' shapes do not tell.
_HEADS = {768: 12, 1024: 16, 1280: 16, 1664: 16}
_GELU_WIDTHS = (
    1280,
    1664,
)  # ViT-H and ViT-bigG come from open_clip, with the exact GELU; OpenAI's use the quick one
_USE_FILE = "use a clip_vision file as ComfyUI does, or a Hugging Face folder"


def load_clip(spec: str, device: str | torch.device, dtype: torch.dtype) -> ClipEncoder:
    """Load what `load_vision` describes.

    Raises:
        UserError: nothing is there, or it is no CLIP.
    """
    if spec == "toy":
        return _load_folder(_toyworld_weights() / "clip", device, dtype, "toy")
    path = Path(spec)
    if path.is_dir():
        return _load_folder(path, device, dtype, path.resolve().name)
    if path.is_file():
        return load_file(path, device, dtype)
    architecture, _, weights = spec.partition(":")
    architecture = architecture.replace("/", "-")  # "ViT-L/14" and "ViT-L-14" are one model
    if architecture in _open_clip_names():
        return _load_open_clip(architecture, weights, device, dtype)
    if looks_like_hub_id(spec):
        return _load_folder(download(spec, ["model*.safetensors", "*.json", "*.txt"]), device, dtype, spec)
    raise no_clip(spec)


def no_clip(spec: str) -> UserError:
    """What is said where there is no CLIP, with the names of open_clip that are like what was given."""
    near = difflib.get_close_matches(spec.partition(":")[0].replace("/", "-"), _open_clip_names(), n=3)
    hint = f" (open_clip has {', '.join(near)})" if near and not spec.endswith(CHECKPOINT_SUFFIXES) else ""
    return UserError(
        f"{spec}: there is no CLIP here{hint}: give a folder, a clip_vision file, an open_clip name such as "
        "ViT-L-14, or a Hugging Face id."
    )


# --------------------------------------------------------------------------------------------- transformers


def _load_folder(folder: Path, device: str | torch.device, dtype: torch.dtype, name: str) -> ClipEncoder:
    import transformers

    config = read_json(folder / "config.json")
    classes = {"clip": "CLIPModel", "clip_vision_model": "CLIPVisionModelWithProjection"}
    if config.get("model_type") not in classes:
        raise UserError(
            f"{folder}: this folder holds a model of type {config.get('model_type')}, not CLIP: "
            "give a CLIP folder."
        )
    with quiet_loading():
        model = read_pretrained(getattr(transformers, classes[config["model_type"]]), folder)
        tokenizer = read_tokenizer(folder) if config["model_type"] == "clip" else None
    return _from_transformers(freeze(model, device, dtype), tokenizer, _read_transform(folder), name)


def _from_transformers(model: Any, tokenizer: Any, transform: ImageTransform, name: str) -> ClipEncoder:
    def embed_pixels(pixels: Tensor) -> Tensor:
        # Not get_image_features: it returns a tensor in transformers 4 and an object in 5.
        return model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)

    return ClipEncoder(
        name=name,
        model=model,
        image_width=int(model.visual_projection.out_features),
        text_width=int(model.text_projection.out_features) if tokenizer is not None else None,
        transform=transform,
        embed_pixels=embed_pixels,
        embed_texts=None if tokenizer is None else text_embedder(model, tokenizer, _text_length(model)),
    )


def _text_length(model: Any) -> int:
    return int(model.config.text_config.max_position_embeddings)


def text_embedder(model: Any, tokenizer: Any, max_length: int) -> Callable[[list[str]], Tensor]:
    """Sentences -> projected embeddings [B, P], by a model with `text_model` and `text_projection`.

    max_length: tokens in a sentence, BOS and EOS included; longer ones are cut.
    """

    def embed_texts(texts: list[str]) -> Tensor:
        tokens = tokenizer(
            texts, padding="max_length", max_length=max_length, truncation=True, return_tensors="pt"
        )
        ids = tokens.input_ids.to(model.text_projection.weight.device)
        # No padding mask: attention is causal, what follows the first EOS cannot reach it. And our own
        # pooling, for where the config's eos_token_id is not the tokenizer's (OpenAI's own config says 2).
        hidden = model.text_model(input_ids=ids).last_hidden_state
        end = (ids == tokenizer.eos_token_id).int().argmax(dim=1)
        return model.text_projection(hidden[torch.arange(len(ids), device=ids.device), end])

    return embed_texts


def _read_transform(folder: Path) -> ImageTransform:
    """What `preprocessor_config.json` (transformers 5: `processor_config.json`) says, else OpenAI's."""
    settings: dict[str, Any] = {}
    if (folder / "preprocessor_config.json").is_file():
        settings = read_json(folder / "preprocessor_config.json")
    elif (folder / "processor_config.json").is_file():
        settings = read_json(folder / "processor_config.json").get("image_processor", {})
    size = settings.get("size", {"shortest_edge": 224}) if settings.get("do_resize", True) else {}
    size = {"shortest_edge": size} if isinstance(size, int) else size
    crop = settings.get("crop_size", 224) if settings.get("do_center_crop", True) else None
    normalise = settings.get("do_normalize", True)
    return ImageTransform(
        shortest_edge=size.get("shortest_edge"),
        size=(size["height"], size["width"]) if "height" in size else None,
        crop=None
        if crop is None
        else (crop, crop)
        if isinstance(crop, int)
        else (crop["height"], crop["width"]),
        resample=int(settings.get("resample", 3)),
        mean=tuple(settings.get("image_mean", CLIP_MEAN)) if normalise else (0.0, 0.0, 0.0),
        std=tuple(settings.get("image_std", CLIP_STD)) if normalise else (1.0, 1.0, 1.0),
    )


# ------------------------------------------------------------------------------------------------- one file


def load_file(path: Path, device: str | torch.device, dtype: torch.dtype) -> ClipEncoder:
    """A file with transformers' names; the shapes tell its sizes. The text half is used if it is there.

    Raises:
        UserError: it is another file, or not whole.
    """
    from transformers import CLIPConfig, CLIPModel, CLIPVisionModelWithProjection

    weights = read_checkpoint(path)
    vision = _vision_sizes(path, weights)
    text = text_sizes(weights)
    with empty_weights():
        model: Any
        if text is None:
            model = CLIPVisionModelWithProjection(_vision_config(vision))
        else:
            config = CLIPConfig(
                text_config=text, vision_config=vision, projection_dim=vision["projection_dim"]
            )
            model = CLIPModel(config)
    fill_weights(model, weights, dtype, path, "CLIP", _USE_FILE)
    tokenizer = None if text is None else clip_tokenizer(text["max_position_embeddings"])
    side = vision["image_size"]
    transform = ImageTransform(shortest_edge=side, crop=(side, side))
    return _from_transformers(freeze(model, device, dtype), tokenizer, transform, path.stem)


def _vision_config(sizes: dict[str, Any]) -> Any:
    from transformers import CLIPVisionConfig

    return CLIPVisionConfig(**sizes)


def _vision_sizes(path: Path, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    stem = weights.get("vision_model.embeddings.patch_embedding.weight")
    positions = weights.get("vision_model.embeddings.position_embedding.weight")
    fc1 = weights.get("vision_model.encoder.layers.0.mlp.fc1.weight")
    projection = weights.get("visual_projection.weight")
    if "visual.conv1.weight" in weights:
        raise UserError(
            f"{path}: this CLIP has open_clip's names: give it as an open_clip name and this file, "
            f"such as ViT-L-14:{path}."
        )
    if stem is None or positions is None or fc1 is None or projection is None:
        raise UserError(f"{path}: this is no CLIP vision model with a projection: {_USE_FILE}.")
    width, patch = int(stem.shape[0]), int(stem.shape[-1])
    heads = _HEADS.get(width, width // 64)
    if heads == 0 or width % heads:
        raise UserError(
            f"{path}: a CLIP vision model {width} wide is not known: give its Hugging Face folder."
        )
    return {
        "hidden_size": width,
        "intermediate_size": int(fc1.shape[0]),
        "num_hidden_layers": count_layers(weights, "vision_model.encoder.layers."),
        "num_attention_heads": heads,
        "patch_size": patch,
        "image_size": patch * round((positions.shape[0] - 1) ** 0.5),  # one position is the class token's
        "projection_dim": int(projection.shape[0]),
        "hidden_act": "gelu" if width in _GELU_WIDTHS else "quick_gelu",
    }


def text_sizes(weights: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """The sizes of a CLIPTextConfig, as the shapes tell them; None without a text half or its projection."""
    tokens = weights.get("text_model.embeddings.token_embedding.weight")
    positions = weights.get("text_model.embeddings.position_embedding.weight")
    fc1 = weights.get("text_model.encoder.layers.0.mlp.fc1.weight")
    projection = weights.get("text_projection.weight")
    if tokens is None or positions is None or fc1 is None or projection is None:
        return None
    width = int(tokens.shape[1])
    return {
        "vocab_size": int(tokens.shape[0]),
        "hidden_size": width,
        "intermediate_size": int(fc1.shape[0]),
        "num_hidden_layers": count_layers(weights, "text_model.encoder.layers."),
        "num_attention_heads": max(1, width // 64),
        "max_position_embeddings": int(positions.shape[0]),
        "projection_dim": int(projection.shape[0]),
        "hidden_act": "gelu" if width in (1024, 1280) else "quick_gelu",
    }


# ------------------------------------------------------------------------------------------------ open_clip


def _open_clip_names() -> list[str]:
    try:
        import open_clip
    except ImportError:
        return []
    return [str(name) for name in open_clip.list_models()]


def _load_open_clip(
    architecture: str, weights: str, device: str | torch.device, dtype: torch.dtype
) -> ClipEncoder:
    import open_clip

    tags = list(open_clip.list_pretrained_tags_by_model(architecture))
    chosen = weights or ("openai" if "openai" in tags else tags[0] if tags else "")
    if not chosen or (weights and weights not in tags and not Path(weights).is_file()):
        raise UserError(
            f"{architecture}:{weights}: open_clip has no such weights, and there is no such file: "
            f"choose one of {', '.join(tags) or 'your own files'}."
        )
    try:
        model = open_clip.create_model(architecture, pretrained=chosen, precision="fp32", device="cpu")
        tokenize = open_clip.get_tokenizer(architecture)
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{architecture}:{chosen}: open_clip cannot load this ({reason}): see to the network, or give "
            f"the weights as a file, {architecture}:FILE."
        ) from error
    width = int(open_clip.get_model_config(architecture)["embed_dim"])
    frozen = freeze(model, device, dtype)
    return ClipEncoder(
        name=f"{architecture}:{Path(chosen).stem if weights not in tags else chosen}"
        if weights
        else architecture,
        model=frozen,
        image_width=width,
        text_width=width,
        transform=_open_clip_transform(architecture, model),
        embed_pixels=lambda pixels: frozen.encode_image(pixels),
        embed_texts=lambda texts: frozen.encode_text(tokenize(texts).to(next(frozen.parameters()).device)),
    )


def _open_clip_transform(architecture: str, model: Any) -> ImageTransform:
    """open_clip's own evaluation transform, as ours: Pillow resizes, and the description can be hashed."""
    settings = dict(getattr(model.visual, "preprocess_cfg", {}))
    size = settings.get("size", 224)
    height, width = (size, size) if isinstance(size, int) else (int(size[0]), int(size[-1]))
    squash = settings.get("resize_mode", "shortest") == "squash"
    if not squash and (settings.get("resize_mode", "shortest") != "shortest" or height != width):
        raise UserError(
            f"{architecture}: this model wants its pictures padded, which is not supported: "
            "choose another, such as ViT-L-14."
        )
    return ImageTransform(
        shortest_edge=None if squash else height,
        size=(height, width) if squash else None,
        crop=None if squash else (height, width),
        resample=2 if settings.get("interpolation") == "bilinear" else 3,
        mean=tuple(settings.get("mean", CLIP_MEAN)),
        std=tuple(settings.get("std", CLIP_STD)),
        crop_rounding="nearest",
    )
