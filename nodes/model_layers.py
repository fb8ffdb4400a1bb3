"""Where an adapter's layers are in ComfyUI's model, which has names of its own for them."""

from __future__ import annotations

import logging
from typing import Any

import comfy.lora
from comfy.model_base import ModelType
from comfy.model_patcher import ModelPatcher

from ..coemogen_train.adapter.choice import EmotionChoice
from ..coemogen_train.adapter.export import kohya_name
from ..coemogen_train.errors import AdapterError

_ROOT = "diffusion_model."
_PUBLIC_NAMES = {"stable-diffusion-v1": "Stable Diffusion 1.5", "stable-diffusion-v2": "Stable Diffusion 2"}


def wanted_base(choice: EmotionChoice) -> str:
    """The kind of model that the adapter was trained on, as people call it."""
    base = choice.adapter.info.base
    return _PUBLIC_NAMES.get(base.architecture, base.architecture)


def lora_keys(model: ModelPatcher) -> dict[str, Any]:
    """The name of a LoRA -> the weight in ComfyUI's model that it belongs to."""
    return comfy.lora.model_lora_keys_unet(model.model, {})


def find_layers(model: ModelPatcher, choice: EmotionChoice) -> dict[str, str]:
    """Module path in a diffusers U-Net -> path in ComfyUI's `diffusion_model`, for all adapted layers.

    Raises:
        AdapterError: the model is of another kind, lacks a layer, or has it in another size.
    """
    _check_width(model, choice)
    keys = lora_keys(model)
    found = {}
    for layer, size in choice.adapter.hilora.layers.items():
        key = keys.get(kohya_name(layer))
        if not isinstance(key, str) or not key.startswith(_ROOT):
            raise _unfit(choice, model, f"the connected model has no layer '{layer}'")
        path = key.removesuffix(".weight")
        module = model.get_model_object(path)
        there = (getattr(module, "in_features", None), getattr(module, "out_features", None))
        if there != size:
            sizes = f"{there[0]} to {there[1]} wide, not {size[0]} to {size[1]}"
            raise _unfit(choice, model, f"the connected model's layer '{layer}' is {sizes}")
        found[layer] = path.removeprefix(_ROOT)
    return found


def _check_width(model: ModelPatcher, choice: EmotionChoice) -> None:
    config = getattr(getattr(model.model, "model_config", None), "unet_config", {})
    width = config.get("context_dim")
    wanted = choice.adapter.info.base.cross_attention_dim
    if width != wanted:
        there = f"listens to text {width} wide" if width else "is built otherwise"
        raise _unfit(choice, model, f"the connected model {there}, not to text {wanted} wide")


def _unfit(choice: EmotionChoice, model: ModelPatcher, fault: str) -> AdapterError:
    kind = type(getattr(model.model, "model_config", model.model)).__name__
    return AdapterError(
        f"{choice.name}: the adapter is for {wanted_base(choice)}, but {fault} (ComfyUI calls it {kind}): "
        f"connect a {wanted_base(choice)} checkpoint."
    )


def setting_warnings(model: ModelPatcher, choice: EmotionChoice) -> None:
    """Log what is otherwise with this model than with the one that the adapter was trained on."""
    trained = choice.adapter.info.base.prediction_type
    known = {"epsilon": ModelType.EPS, "v_prediction": ModelType.V_PREDICTION}
    found: Any = getattr(model.model, "model_type", None)
    if trained in known and found in known.values() and found != known[trained]:
        logging.warning(
            "%s: the adapter was trained on a base that predicts %s, and the connected model is taken to "
            "predict %s: expect less of the emotion, or set it with ModelSamplingDiscrete.",
            choice.name,
            trained,
            found.name.lower(),
        )
