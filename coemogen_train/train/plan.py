"""The plan of a run, made before its first weight is read: what `train --dry-run` prints and a run logs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..adapter.carry import carry_over
from ..adapter.gaussian_fit import MAX_COMPONENTS
from ..base.shape import read_vision_width
from ..data.caption_features import caption_digests
from ..data.digests import digests_of, from_hex
from .config import TrainConfig
from .disk import check_disk, disk_needed, free_bytes, readable_size
from .memory import available_memory, choose_checkpointing, estimate_memory, memory_caution
from .plan_parts import (
    DiskPlan,
    MemoryPlan,
    Plan,
    TimePlan,
    plan_base,
    plan_batch,
    plan_emotions,
    plan_init,
    plan_rate,
)
from .precision import dtype_of
from .rehearsal import MetaModels, Rehearsal, rehearse_encoding, rehearse_step
from .speed import measure_speed
from .validation import TIMESTEPS

if TYPE_CHECKING:
    from .start import Start

logger = logging.getLogger(__name__)

# Where nothing but the weights tells V: that of OpenAI's CLIP ViT-L/14.
_USUAL_VISION_WIDTH = 768
# FLOPs of that CLIP's eye for a picture; other widths are taken to cost by the square.
_VISION_FLOPS = 0.162e12
# A forward pass's share of a step's work, and what decoding a picture costs in encodings of one.
_FORWARD_SHARE, _DECODING = 0.46, 2.25
_HALF, _SINGLE = 2, 4  # bytes


@dataclass(frozen=True)
class _Work:
    """What there is to do beside the steps themselves, counted in pictures."""

    latents: int
    held_out: int
    embeds: int
    captions: int

    @classmethod
    def of(cls, start: Start, config: TrainConfig) -> _Work:
        stock, of = start.checked.stock, start.training_set
        train = of.samples("train")
        captions = caption_digests(train.captioned()) if config.caches_captions else from_hex(())
        return cls(
            latents=stock.latents.missing(digests_of(train)),
            held_out=stock.latents.missing(digests_of(start.held_out)),
            embeds=stock.embeds.missing(digests_of(of.samples())),
            captions=stock.captions.missing(np.unique(captions)),
        )


def make_plan(
    config: TrainConfig, start: Start, processes: int, device: torch.device, whole: bool = False
) -> Plan:
    """Work out what a run will do, need and take.

    Arguments:
        start: what the settings name, checked. processes: that train together. device: that trains.
        whole: estimate the memory both ways, also where one of them decides.

    Raises:
        AdapterError: an adapter to go on from whose sizes are not those of the settings.
        ConfigError: a disk that is too small.
    """
    likely = start.source.info.vision.width if start.source else _USUAL_VISION_WIDTH
    vision_width = read_vision_width(config.vision) or likely
    models = MetaModels.build(config, start.shape, start.taxonomy, vision_width)
    if start.source is not None and start.shape.assumed is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that nothing is copied to where there is no memory
            carry_over(start.source, models.embedder, models.hilora, start.taxonomy)
    batch, work = plan_batch(config, len(start.samples), processes), _Work.of(start, config)
    disk = _disk(config, start, models, work, vision_width)
    memory, step, encoding = _memory(config, start, models, device, processes, whole)
    told = [*([start.division] if start.division else []), *start.checked.warnings]
    if memory.needed is not None and (caution := memory_caution(config, memory.needed, memory.available)):
        told.append(caution)
    if memory.caching is not None and memory.caching > memory.available and work.latents:
        told.append(
            f"Caching needs about {readable_size(memory.caching)}, and there are "
            f"{readable_size(memory.available)}: run `cache` before, with --device cpu or on a larger one."
        )
    time = None
    if step is not None and encoding is not None:
        time = _time(
            config, start, device, step, encoding, work, vision_width, processes, memory.checkpointing
        )
    licence, licence_from = start.terms(config, "licence")
    origin, origin_from = start.terms(config, "origin")
    return Plan(
        set=str(config.set),
        out=str(config.out),
        base=plan_base(config, start),
        emotions=plan_emotions(start, batch),
        batch=batch,
        rate=plan_rate(config),
        precision=config.precision,
        memory=memory,
        disk=disk,
        time=time,
        licence=licence,
        licence_from=licence_from,
        origin=origin,
        origin_from=origin_from,
        init=plan_init(config, start),
        warnings=tuple(told),
    )


def _memory(
    config: TrainConfig, start: Start, models: MetaModels, device: torch.device, processes: int, whole: bool
) -> tuple[MemoryPlan, Rehearsal | None, Rehearsal | None]:
    """Give the plan, a step (without checkpointing) and an encoding as rehearsed; these None on failure."""
    available, source = available_memory(config, device)
    plain = _tried(lambda: rehearse_step(models, config, start.shape, device.type, checkpointing=False))
    encoding = _tried(lambda: rehearse_encoding(models, config.resolution, 1))
    if plain is None or encoding is None:
        on = (
            device.type == "cuda"
            if config.gradient_checkpointing == "auto"
            else config.gradient_checkpointing
        )
        reason = "what a step needs is not known"
        return MemoryPlan(on, reason, available, source, None, None, None, None), None, None
    estimate = estimate_memory(models, config, device.type, plain, None, encoding, processes)
    on, reason = choose_checkpointing(config, estimate, available)
    if on or whole:
        less = _tried(lambda: rehearse_step(models, config, start.shape, device.type, checkpointing=True))
        estimate = estimate_memory(models, config, device.type, plain, less, encoding, processes)
    chosen = estimate.checkpointed if on else estimate.plain
    if on and chosen is not None and config.gradient_checkpointing == "auto":
        reason += f", {readable_size(chosen.total)} with it"
    plan = MemoryPlan(
        checkpointing=on,
        reason=reason,
        available=available,
        available_from=source,
        needed=chosen.total if chosen else None,
        caching=estimate.caching,
        estimate=estimate.plain,
        checkpointed_estimate=estimate.checkpointed,
    )
    return plan, plain, encoding


def _tried(rehearsal: Callable[[], Rehearsal]) -> Rehearsal | None:
    """Give what a rehearsal gives; None where it fails: libraries change, and no estimate is worth a run."""
    try:
        return rehearsal()
    except Exception as error:
        kind = type(error).__name__
        logger.warning("what a step needs cannot be estimated with these libraries (%s: %s)", kind, error)
        return None


def _disk(config: TrainConfig, start: Start, models: MetaModels, work: _Work, vision_width: int) -> DiskPlan:
    trained = sum(parameter.numel() for parameter in models.trained) * _SINGLE
    auto = config.gaussian_components == "auto"
    components = MAX_COMPONENTS if auto else int(config.gaussian_components)
    factor = vision_width if config.gaussian_covariance == "full" else 1
    cache = start.training_set.cache_folder
    parts = disk_needed(
        config,
        trainable_bytes=trained,
        gaussian_bytes=start.taxonomy.num_emotions * components * vision_width * (_SINGLE + factor * _HALF),
        num_emotions=start.taxonomy.num_emotions,
        cache=cache,
        missing_latents=work.latents,
        missing_held_out=work.held_out,
        missing_embeds=work.embeds,
        missing_captions=work.captions,
        latent_numbers=start.shape.latent_channels * (config.resolution // start.shape.vae_factor) ** 2,
        vision_width=vision_width,
        caption_numbers=(start.shape.max_length + 1) * start.shape.width,
    )
    check_disk(parts)
    return DiskPlan(tuple(parts), free_bytes(cache), free_bytes(config.out))


def _time(
    config: TrainConfig,
    start: Start,
    device: torch.device,
    plain: Rehearsal,
    encoding: Rehearsal,
    work: _Work,
    vision_width: int,
    processes: int,
    checkpointing: bool,
) -> TimePlan:
    speed = measure_speed(device, dtype_of(config.precision))
    micro_batch = speed.seconds(plain)
    step = config.accumulate * micro_batch * ((1 + _FORWARD_SHARE * 0.75) if checkpointing else 1)
    forward = _FORWARD_SHARE * micro_batch / config.batch_size
    caching = 0.0
    if work.latents or work.held_out or work.embeds:
        exact = measure_speed(device, torch.float32)
        views = work.latents * (2 if config.flip else 1) + work.held_out
        look = Rehearsal(0, round(_VISION_FLOPS * (vision_width / _USUAL_VISION_WIDTH) ** 2), 0, 0)
        caching = views * exact.seconds(encoding) + work.embeds * exact.seconds(look)
    measured = config.steps // config.validate_every + 1 if config.validate_every else 0
    sheets = config.steps // config.preview_every if config.preview_every else 0
    passes = config.preview_steps * (2 if config.guidance != 1 else 1)
    picture = passes * forward + _DECODING * speed.seconds(encoding)
    return TimePlan(
        device=_device_name(device),
        step=step,
        training=config.steps * step,
        caching=caching,
        validation=measured * len(start.held_out) * TIMESTEPS * forward / processes,
        previews=sheets * start.taxonomy.num_emotions * config.preview_columns * picture,
    )


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}"
    return "this machine (CPU)" if device.type == "cpu" else f"this machine ({device.type})"
