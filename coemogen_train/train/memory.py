"""How much memory a run needs, from the base's sizes alone, and whether gradient checkpointing is due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..data.cache import CacheOptions
from .config import TrainConfig
from .disk import readable_size
from .rehearsal import MetaModels, Rehearsal

_GIB = 2**30
_USABLE = 0.94
_SINGLE = 4  # bytes
# What a CUDA context with its libraries takes before the first tensor.
_CUDA_CONTEXT = round(0.6 * _GIB)
# What kernels use inside, beside the largest convolution's weights, which are laid out anew, and what an
# allocator loses between blocks: on a CPU the peak of a real step was 0 to 8% above what its tensors add up
# to; the C library's heap may hold more of many blocks of many sizes.
_WORKSPACE = 16 << 20
_LOSS = 0.1
# The optimiser gathers weights and gradients when the activations are gone.
_OPTIMISER_COPIES = 3


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on the device at the peak of training, by what they are for.

    weights: of the frozen U-Net, in the precision of training, of the text encoder and of the VAE.
    trainable: what is trained, its gradients, AdamW's two moments and the averaged weights, in float32.
    activations: what the forward pass keeps for the backward pass, at its largest.
    overhead: the device's own context, workspaces, and what lies idle between blocks.
    """

    weights: int
    trainable: int
    activations: int
    overhead: int

    @property
    def total(self) -> int:
        return self.weights + self.trainable + self.activations + self.overhead


@dataclass(frozen=True)
class StepMemory:
    """Estimates without and with gradient checkpointing, and the bytes at the peak while the set is cached.

    checkpointed: None where it was not asked for.
    """

    plain: MemoryEstimate
    checkpointed: MemoryEstimate | None
    caching: int


def estimate_memory(
    models: MetaModels,
    config: TrainConfig,
    device_type: str,
    plain: Rehearsal,
    checkpointed: Rehearsal | None,
    encoding: Rehearsal,
    processes: int = 1,
) -> StepMemory:
    """Add up what a device holds at the peak of a step.

    Arguments:
        models: of this run. device_type: "cuda", "mps" or "cpu".
        plain, checkpointed: its step, without and with gradient checkpointing. encoding: of one picture.
        processes: of training; several exchange gradients through buffers of their size.
    """
    trained = sum(parameter.numel() for parameter in models.trained) * _SINGLE
    states = 4 + bool(config.ema_decay) + (processes > 1)
    vae = sum(parameter.numel() for parameter in models.vae.parameters())
    weights = _bytes(models.unet) + _bytes(models.text_encoder)
    weights += vae * (2 if config.precision == "bf16" else _SINGLE)

    def estimate(rehearsal: Rehearsal) -> MemoryEstimate:
        activations = max(rehearsal.peak_bytes, _OPTIMISER_COPIES * trained)
        overhead = _overhead(models, activations, device_type)
        return MemoryEstimate(weights, states * trained, activations, overhead)

    # The U-Net is read in float32 and then makes room; CLIP's eye is about twice its voice.
    together = encoding.peak_bytes * CacheOptions().batch_size
    unet = sum(parameter.numel() for parameter in models.unet.parameters()) * _SINGLE
    together += _overhead(models, together, device_type)
    caching = max(unet, 2 * _bytes(models.text_encoder) + together)
    return StepMemory(
        plain=estimate(plain),
        checkpointed=estimate(checkpointed) if checkpointed else None,
        caching=caching + _bytes(models.text_encoder) + vae * _SINGLE,
    )


def available_memory(config: TrainConfig, device: torch.device) -> tuple[int, str]:
    """Give (bytes that a run may use, where this is known from): the settings, the GPU, or the machine."""
    stated = None if config.memory_gib is None else round(config.memory_gib * _GIB)
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        # A desktop and the allocator's losses want their share.
        there = int(_USABLE * properties.total_memory)
        if stated is None or there < stated:
            return there, properties.name
    if stated is not None:
        return stated, "memory_gib of the settings"
    import psutil

    return int(psutil.virtual_memory().total), "this machine's memory"


def choose_checkpointing(config: TrainConfig, estimate: StepMemory, available: int) -> tuple[bool, str]:
    """Decide whether the U-Net's blocks are computed again in the backward pass, which saves memory.

    Arguments:
        available: bytes.

    Returns:
        (on or off, the reason as a clause).
    """
    if config.gradient_checkpointing != "auto":
        return config.gradient_checkpointing, "the settings say so"
    plain = estimate.plain.total
    told = f"a step needs about {readable_size(plain)} of {readable_size(available)} without it"
    return plain > available, told


def memory_caution(config: TrainConfig, needed: int, available: int) -> str | None:
    """Say what to do where a run will hardly fit, or None."""
    if needed <= available:
        return None
    told = f"A step needs about {readable_size(needed)}, and there are {readable_size(available)}"
    return f"{told}: {memory_cure(config)}."


def memory_cure(config: TrainConfig) -> str:
    """Say what needs less memory, the gentlest first: a clause."""
    cures = [] if config.gradient_checkpointing is True else ["--set gradient_checkpointing=true"]
    whole = config.batch_size * config.accumulate
    if smaller := [size for size in range(1, config.batch_size) if whole % size == 0]:
        size = smaller[-1]
        cures.append(f"--set batch_size={size} --set accumulate={whole // size}, which gives the same batch")
    return f"try {', or '.join([*cures, 'a smaller resolution'])}"


def _overhead(models: MetaModels, activations: int, device_type: str) -> int:
    context = _CUDA_CONTEXT if device_type == "cuda" else 0
    largest = max(parameter.numel() for parameter in models.unet.parameters()) * _SINGLE
    return context + _WORKSPACE + largest + round(_LOSS * activations)


def _bytes(module: Any) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())
