"""HiLoRA on ComfyUI's model: merged into the weights, or routed beside the layers.

Routed, each row of a pass must find its own gate, whatever ComfyUI does to the batch: conditional and
unconditional rows in one pass or in two, areas, tiles, context windows, several conditionings, samplers that
call the model once more. So the gates ride on the conditionings, and ComfyUI itself carries them:

    EmotionConditioner     writes its emotion's gates into the conditioning ("coemogen")
    OUTER_SAMPLE           makes of them, or else of the loaders' own, a model conditioning of each cond:
                           a row per picture, which ComfyUI repeats, slices and stacks as it does the text
    DIFFUSION_MODEL        takes it off again, and puts the bank beside the layers for the length of this pass

Nothing stays on the model between two passes: there is nothing to undo.
"""

from __future__ import annotations

import copy
import logging
import math
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from comfy.conds import CONDRegular
from comfy.lora import load_lora
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor, nn

from ..coemogen_train.adapter.bank import HiLoRABank
from ..coemogen_train.adapter.choice import EmotionChoice, cycled
from ..coemogen_train.adapter.export import plain_lora
from ..coemogen_train.adapter.hilora import AttachedHiLoRA, HiLoRA, RowsError
from ..coemogen_train.emotions import MAX_MIXTURE_ROWS
from ..coemogen_train.errors import AdapterError
from .model_layers import find_layers, lora_keys

# Our place in everything that ComfyUI keys by name: conditionings, model conditionings, wrappers.
KEY = "coemogen"


def merge_hilora(model: ModelPatcher, choice: EmotionChoice) -> ModelPatcher:
    """A clone of the model with the choice's one mixture as static weight patches.

    Raises:
        AdapterError: the adapter does not fit the model, or the pictures have different mixtures.
    """
    layers = find_layers(model, choice)
    gates = choice.gates()
    if not torch.equal(gates, gates[:1].expand_as(gates)):
        raise AdapterError(
            f"merged mode has one emotion for all pictures, and {len(gates)} different ones are asked for: "
            "set the mode to routed, or choose one emotion or one mixture."
        )
    if _stored_in_8_bits(model):
        logging.warning(
            "%s: this model is stored in 8 bits, and rounding drowns much of what is merged into it: set the "
            "mode of Load Emotion to routed, which keeps it whole.",
            choice.name,
        )
    merged = model.clone()
    patches = load_lora(plain_lora(choice.adapter.hilora, gates[0]), lora_keys(model))
    taken = merged.add_patches(patches, 1.0)
    if patches and len(taken) < len(layers):
        raise AdapterError(
            f"{choice.name}: only {len(taken)} of its {len(layers)} layers could be merged into this model: "
            "set the mode to routed."
        )
    return merged


@dataclass(frozen=True)
class Member:
    """One adapter on a model: its HiLoRA, and the gates [R, G * rank] of rows that bring none of their own.

    `negative`: those of unconditional rows.
    """

    hilora: HiLoRA
    layers: Mapping[str, str]
    positive: Tensor
    negative: Tensor


def route_hilora(model: ModelPatcher, choice: EmotionChoice, negative_strength: float) -> ModelPatcher:
    """A clone of the model with the choice's HiLoRA routed beside its layers.

    A second loader joins the bank of the first: other adapters add up, and the same adapter twice adds its
    gates up. At strength 0 the model stays as it is.

    Args:
        negative_strength: factor on HiLoRA in the unconditional rows that bring no emotion of their own.

    Raises:
        AdapterError: the adapter does not fit the model.
    """
    layers = find_layers(model, choice)
    gates = choice.gates()
    if not gates.any():
        return model.clone()
    members: dict[str, Member] = dict(model.get_attachment(KEY) or {})
    joined = Member(choice.adapter.hilora, layers, gates, negative_strength * gates)
    before = members.get(choice.adapter.checksum)
    if before is not None:
        joined = Member(
            before.hilora,
            layers,
            _added(before.positive, joined.positive),
            _added(before.negative, joined.negative),
        )
    members[choice.adapter.checksum] = joined
    return _with_members(model, members)


def _added(one: Tensor, other: Tensor) -> Tensor:
    """The sum of two gates, picture by picture, for as many pictures as it takes to come round.

    Raises:
        AdapterError: more than any batch has.
    """
    count = math.lcm(len(one), len(other))
    if count > MAX_MIXTURE_ROWS:
        raise AdapterError(
            f"two loaders in a chain have {len(one)} and {len(other)} emotions, which come round together "
            f"after {count} pictures only, more than {MAX_MIXTURE_ROWS}: give both as many."
        )
    return cycled(one, count) + cycled(other, count)


def _with_members(model: ModelPatcher, members: Mapping[str, Member]) -> ModelPatcher:
    bank = HiLoRABank(
        {checksum: member.hilora for checksum, member in members.items()}, _computing_dtype(model)
    )
    paths = {layer: path for member in members.values() for layer, path in member.layers.items()}
    routing = Routing(bank, members, paths)
    routed = model.clone()
    routed.set_attachments(KEY, members)
    # As a model of its own beside the U-Net, ComfyUI counts the bank's memory, loads it and offloads it.
    routed.set_additional_models(KEY, [_bank_patcher(bank, model)])
    wrappers: dict[str, Callable[..., Any]] = {
        WrappersMP.OUTER_SAMPLE: routing.gate_conditionings,
        WrappersMP.DIFFUSION_MODEL: routing.run_pass,
    }
    for kind, wrapper in wrappers.items():
        routed.remove_wrappers_with_key(kind, KEY)
        routed.add_wrapper_with_key(kind, KEY, wrapper)
    return routed


def _bank_patcher(bank: HiLoRABank, model: ModelPatcher) -> ModelPatcher:
    patcher = ModelPatcher(bank, model.load_device, model.offload_device)
    # From this, newer versions make one more for a second GPU.
    patcher.cached_patcher_init = (lambda: _bank_patcher(copy.deepcopy(bank), model), ())
    return patcher


class Routing:
    """What ComfyUI calls while it samples with a routed model."""

    def __init__(self, bank: HiLoRABank, members: Mapping[str, Member], paths: Mapping[str, str]) -> None:
        self.bank = bank
        self.members = members
        self.paths = paths

    def gate_conditionings(self, executor: Any, noise: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Around the whole sampling: every conditioning gets its gates, [B, width] for B pictures."""
        guider = executor.class_obj
        for name, conds in guider.conds.items():
            guider.conds[name] = [self._gated(cond, "negative" in name, noise.shape[0]) for cond in conds]
        with _uncompiled(guider.model_options):
            return executor(noise, *args, **kwargs)

    def _gated(self, cond: dict[str, Any], negative: bool, pictures: int) -> dict[str, Any]:
        words = cond.get("cross_attn")
        # A conditioning zeroed out says nothing any more, of its emotion neither.
        silent = negative and words is not None and not words.any()
        own = {} if silent else cond.get(KEY, {})
        gates = {
            checksum: cycled(own.get(checksum, self._default(member, negative)), pictures)
            for checksum, member in self.members.items()
        }
        model_conds = {**cond.get("model_conds", {}), KEY: CONDRegular(self.bank.joined(gates))}
        return {**cond, "model_conds": model_conds}

    @staticmethod
    def _default(member: Member, negative: bool) -> Tensor:
        return member.negative if negative else member.positive

    def run_pass(
        self,
        executor: Any,
        x: Tensor,
        timesteps: Any = None,
        context: Any = None,
        y: Any = None,
        control: Any = None,
        transformer_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Around one pass of the U-Net, x [rows, C, h, w]: the bank stands beside the layers."""
        gate = kwargs.pop(KEY, None)
        transformer_options = {} if transformer_options is None else transformer_options
        if gate is None:
            gate = self._gate_without_riders(x.shape[0], transformer_options)
        if x.shape[0] != gate.shape[0]:
            gate = cycled(gate, x.shape[0])
        with AttachedHiLoRA(self.bank, self._modules(executor.class_obj), tiles=True) as attached:
            attached.route(gate.to(x.device))
            try:
                return executor(x, timesteps, context, y, control, transformer_options, **kwargs)
            except RowsError as error:
                raise AdapterError(
                    f"another node gives a layer of the model other rows than there are pictures ({error}), "
                    "and routed HiLoRA cannot tell whose they are: set the mode of Load Emotion to merged."
                ) from None

    def _gate_without_riders(self, rows: int, transformer_options: Mapping[str, Any]) -> Tensor:
        """The loaders' own gates, for a sampler that goes past ComfyUI's guiders."""
        chunks = transformer_options.get("cond_or_uncond") or [0]
        pictures = max(1, rows // len(chunks))
        return torch.cat(
            [
                self.bank.joined(
                    {
                        checksum: cycled(self._default(member, bool(chunk)), pictures)
                        for checksum, member in self.members.items()
                    }
                )
                for chunk in chunks
            ]
        )

    def _modules(self, unet: nn.Module) -> dict[str, nn.Module]:
        return {layer: unet.get_submodule(path) for layer, path in self.paths.items()}


def _uncompiled(model_options: Mapping[str, Any]) -> AbstractContextManager[Any]:
    """Within the block, nothing that torch.compile made of the model is used.

    Dynamo does not look for hooks on modules: what it compiled without them would run without HiLoRA.
    """
    wrappers = model_options.get("transformer_options", {}).get("wrappers", {})
    if "torch.compile" in wrappers.get(WrappersMP.APPLY_MODEL, {}):
        logging.warning(
            "CoEmoGen: routed HiLoRA runs the model uncompiled; for a compiled model set the mode of Load "
            "Emotion to merged."
        )
    if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):
        return torch.compiler.set_stance("force_eager")
    return nullcontext()


def _stored_in_8_bits(model: ModelPatcher) -> bool:
    return getattr(model.model.get_dtype(), "itemsize", 2) == 1


def _computing_dtype(model: ModelPatcher) -> torch.dtype:
    """What the U-Net computes in, which is not what an fp8 checkpoint is stored in."""
    return model.model.manual_cast_dtype or model.model.get_dtype()
