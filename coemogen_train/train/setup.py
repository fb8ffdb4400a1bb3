"""All that a run needs before its first step: the frozen base, what is trained, batches, optimiser."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor, nn

from ..adapter.carry import joined_gaussians
from ..adapter.condition import prompt_ids
from ..adapter.gaussian_fit import fit_gaussians
from ..adapter.gaussians import EmotionGaussians
from ..base.vision import load_vision
from ..data.buckets import bucket_of, bucket_sizes, size_multiple
from ..data.cache import CacheOptions, build_cache
from ..data.caption_features import CaptionEncoder
from ..data.embeddings import EmbeddingCache
from ..data.samples import TrainingSet
from ..emotions import Taxonomy
from .accelerator import make_accelerator as make_accelerator
from .batches import BatchMaker, Draws
from .compiled import compile_blocks
from .config import TrainConfig
from .frozen import load_frozen_base, park_unet, set_precision
from .items import TrainingItems, labels_of
from .objective import CoEmoGenObjective
from .optimiser import GroupedAdamW
from .peers import ALONE, Peers
from .pictures import to_fit_on
from .precision import LossScale, autocast
from .prefetch import NextBatch
from .progress import stage_progress
from .start import Start, build_objective
from .validation import HeldOut

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ..base.model import BaseModel


class MicroBatch(Protocol):
    """What a model takes, as a `Batch`; pinned, it goes to a CUDA device without being waited for."""

    def to(self, device: torch.device, /) -> MicroBatch: ...
    def pin_memory(self) -> MicroBatch: ...


class Batches(Protocol):
    """Where the steps' micro-batches come from; see `BatchMaker`."""

    def sample_ids(self, step: int, /) -> list[str]: ...
    def micro_batches(self, step: int, size: int, process: int, processes: int, /) -> list[list[int]]: ...
    def batch(self, step: int, positions: Iterable[int], /) -> MicroBatch: ...


@dataclass
class Stepping:
    """What steps and checkpoints need, whatever is trained.

    objective: a micro-batch in, its `Losses` out. model: the same as accelerate wraps it for several devices.
    peers: the processes that train together. stepped: passes when a CUDA device has done the last step.
    """

    config: TrainConfig
    accelerator: Accelerator
    start: Start
    base: BaseModel
    objective: nn.Module
    model: nn.Module
    optimiser: GroupedAdamW
    loss_scale: LossScale
    batches: Batches
    peers: Peers = field(default=ALONE, kw_only=True)
    next_batch: NextBatch = field(init=False, default_factory=NextBatch)
    stepped: torch.cuda.Event | None = field(init=False, default=None)

    @property
    def device(self) -> torch.device:
        return self.base.device

    @property
    def effective_batch(self) -> int:
        """Samples per optimiser step, over all accumulated micro-batches and processes."""
        return self.config.batch_size * self.config.accumulate * self.accelerator.num_processes

    def autocast(self) -> AbstractContextManager[None]:
        """The context of a forward pass; see `precision.autocast`."""
        return autocast(self.device.type, self.config.precision)


@dataclass
class Run(Stepping):
    """A run of CoEmoGen that is ready to step."""

    objective: CoEmoGenObjective
    batches: BatchMaker
    training_set: TrainingSet
    vision_name: str
    cache: EmbeddingCache
    vision_width: int
    held_out: HeldOut | None

    @cached_property
    def gaussians(self) -> EmotionGaussians:
        """The clusters of v, fitted when first asked for: they depend on the set alone."""
        config, carried = self.config, self.start.carried
        first = carried.gaussians.weights.shape[0] if carried else 0
        samples = to_fit_on(self.start.samples)
        fitted = fit_gaussians(
            self.cache.embeds_of(samples),
            torch.from_numpy(labels_of(samples, self.taxonomy)) - first,
            self.taxonomy.num_emotions - first,
            self.covariance,
            config.gaussian_components,
            seed=config.seed,
        )
        return joined_gaussians(carried.gaussians, fitted) if carried else fitted

    @property
    def covariance(self) -> Literal["full", "diagonal"]:
        """The clusters' form: that of the adapter to which emotions are added, where there is one."""
        carried = self.start.carried
        return carried.gaussians.covariance if carried else self.config.gaussian_covariance

    @property
    def taxonomy(self) -> Taxonomy:
        return self.start.taxonomy


def prepare_run(
    config: TrainConfig,
    start: Start,
    accelerator: Accelerator,
    checkpointing: bool = False,
    progress: bool = False,
    peers: Peers = ALONE,
) -> Run:
    """Load, cache and build everything that `config` names.

    Arguments:
        start: what `start.begin` read: set, samples, taxonomy, and the adapter that is gone on from.
        checkpointing: exchange time for memory, as the plan decided.
        progress: a bar for what takes long.
        peers: the processes that train together.

    Raises:
        UserError: whatever of it is missing or does not fit, in one sentence.
    """
    training_set, taxonomy = start.training_set, start.taxonomy
    base = load_frozen_base(config, start, accelerator.device)
    park_unet(base)
    clip = load_vision(config.vision, accelerator.device)
    start.check_vision(clip)
    shown = progress and accelerator.is_main_process
    buckets = bucket_sizes(config.resolution, size_multiple(base)) if config.aspect_buckets else None
    # All processes build it together, each on its own device.
    with stage_progress(shown) as stage:
        cache = build_cache(
            training_set,
            base,
            clip,
            config.resolution,
            flip=config.flip,
            options=CacheOptions(
                caption_dtype="float32" if config.cache_captions == "float32" else "float16",
                share_checks=True,
            ),
            progress=stage,
            held_out=start.held_out,
            captions=CaptionEncoder(base) if config.caches_captions else None,
            buckets=buckets,
        )
    peers.meet()  # each has seen that its share of the cache is whole
    vision_name = clip.name
    del clip  # its work is done, and its room is wanted
    set_precision(base, config.precision, accelerator.device, checkpointing)

    items = TrainingItems(start.samples, taxonomy)
    means = cache.mean_embeds(start.samples, items.labels, taxonomy.num_emotions)
    objective = build_objective(config, base, start, means.shape[1])
    if config.compile:
        compile_blocks(base.unet, accelerator.device)
    peers.meet()  # DDP compares the weights at once, and caching may have ended at different times
    return Run(
        config=config,
        accelerator=accelerator,
        training_set=training_set,
        start=start,
        base=base,
        vision_name=vision_name,
        objective=objective,
        model=_wrapped(objective, accelerator),
        optimiser=GroupedAdamW(
            objective.named_parameters(),
            config.learning_rate,
            weight_decay=config.weight_decay,
            ema_decay=config.ema_decay,
        ),
        loss_scale=LossScale(config.precision == "fp16", base.device),
        batches=BatchMaker(
            items,
            items.labels,
            config.batch_size * config.accumulate * accelerator.num_processes,
            _draws(config, base),
            cache.latents,
            cache.image_embeds,
            means,
            lambda text: prompt_ids(base.tokenizer, text, config.tokens, base.max_length),
            _captions(config, cache) if config.caches_captions else None,
            None if buckets is None else bucket_of(start.samples, buckets),
        ),
        cache=cache,
        vision_width=means.shape[1],
        held_out=HeldOut.of(start.held_out, taxonomy, cache),
        peers=peers,
    )


def _wrapped(objective: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The objective as accelerate has it: for several processes in DDP."""
    with warnings.catch_warnings():
        # Newer torch has another name for leaving buffers alone, and accelerate does not know it yet.
        warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
        wrapped: nn.Module = accelerator.prepare(objective)
    return wrapped


def run_folders(out: Path) -> tuple[Path, Path, Path]:
    """Give where a run keeps its checkpoints, its previews and its history."""
    return out / "checkpoints", out / "previews", out / "history.jsonl"


def _draws(config: TrainConfig, base: BaseModel) -> Draws:
    return Draws(
        seed=config.seed,
        flip=config.flip,
        content_prompts=config.content_prompts,
        v_dropout=config.v_dropout,
        condition_dropout=config.condition_dropout,
        num_timesteps=int(base.noise_schedule().config.num_train_timesteps),
    )


def _captions(config: TrainConfig, cache: EmbeddingCache) -> Callable[[str], dict[str, Tensor]]:
    """Give, for a caption, that part of T(c) which the loss takes."""
    name = "pooled" if config.semantic_loss == "pooled" else "hidden"
    return lambda caption: {f"caption_{name}": cache.caption_states(caption, name)}
