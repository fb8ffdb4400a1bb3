"""All that a run needs before its first step: the frozen base, what is trained, batches, optimiser."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..adapter.condition import EmotionEmbedder, prompt_ids, vocabulary_row_norm
from ..adapter.encoder import VisualPerceptionEncoder
from ..adapter.gaussian_fit import fit_gaussians
from ..adapter.gaussians import EmotionGaussians
from ..adapter.hilora import HiLoRA
from ..adapter.mapper import NeuroSymbolicMapper
from ..base.load import load_base
from ..base.vision import load_vision
from ..data.cache import build_cache
from ..data.samples import Sample, TrainingSet
from ..emotions import Taxonomy
from ..errors import ConfigError, DataError
from ..files import canonical_json
from .batches import BatchMaker, Draws, TrainingItem
from .config import TrainConfig
from .objective import CoEmoGenObjective
from .optimiser import GroupedAdamW
from .precision import LossScale
from .progress import stage_progress
from .prompts import content_words

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ..base.model import BaseModel

logger = logging.getLogger(__name__)

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Run:
    """A run that is ready to step. `model` is `objective` as accelerate wraps it for several devices."""

    config: TrainConfig
    accelerator: Accelerator
    training_set: TrainingSet
    base: BaseModel
    vision_name: str
    objective: CoEmoGenObjective
    model: nn.Module
    optimiser: GroupedAdamW
    loss_scale: LossScale
    batches: BatchMaker
    embeds: Tensor  # [n, V] float32: v of each kept training picture
    labels: Tensor  # [n] int64: its emotion
    data_fingerprint: str

    @cached_property
    def gaussians(self) -> EmotionGaussians:
        """The clusters of v, fitted when first asked for: they depend on the set alone."""
        config = self.config
        return fit_gaussians(
            self.embeds,
            self.labels,
            self.taxonomy.num_emotions,
            config.gaussian_covariance,
            config.gaussian_components,
            seed=config.seed,
        )

    @property
    def taxonomy(self) -> Taxonomy:
        return self.training_set.taxonomy

    @property
    def device(self) -> torch.device:
        return self.base.device

    @property
    def effective_batch(self) -> int:
        """Samples per optimiser step, over all accumulated micro-batches and processes."""
        return self.config.batch_size * self.config.accumulate * self.accelerator.num_processes

    def autocast(self) -> torch.autocast:
        """The context of a forward pass: half precision where the settings ask, weights stay float32."""
        dtype = _DTYPES[self.config.precision]
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32)


def prepare_run(config: TrainConfig, progress: bool = False) -> Run:
    """Load, cache and build everything that `config` names; with `progress`, a bar for what takes long.

    Raises:
        UserError: whatever of it is missing or does not fit, in one sentence.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs

    # Precision is ours (`Run.autocast`, `LossScale`): accelerate's scaler asks the device before every step.
    accelerator = Accelerator(
        mixed_precision="no", kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)]
    )
    if config.precision == "fp16" and accelerator.device.type == "cpu":
        raise ConfigError("precision fp16 needs a GPU; on the CPU take fp32 or bf16.")
    training_set = TrainingSet.open(config.set)
    samples = training_samples(training_set, captions_needed=config.semantic_weight > 0)
    base = load_base(config.base, accelerator.device)
    _check_base(base, config)
    clip = load_vision(config.vision, accelerator.device)
    shown = progress and accelerator.is_main_process
    # One process builds, the others find it built.
    with accelerator.main_process_first(), stage_progress(shown) as stage:
        cache = build_cache(training_set, base, clip, config.resolution, flip=config.flip, progress=stage)
    _set_precision(base, config)

    embeds = torch.stack([cache.image_embeds(sample.id) for sample in samples]).float()
    items = training_items(samples, training_set.taxonomy)
    objective = build_objective(config, base, training_set.taxonomy, embeds.shape[1]).to(base.device)
    draws = Draws(
        seed=config.seed,
        flip=config.flip,
        content_prompts=config.content_prompts,
        v_dropout=config.v_dropout,
        condition_dropout=config.condition_dropout,
        num_timesteps=int(base.noise_schedule().config.num_train_timesteps),
    )
    return Run(
        config=config,
        accelerator=accelerator,
        training_set=training_set,
        base=base,
        vision_name=clip.name,
        objective=objective,
        model=accelerator.prepare(objective),
        optimiser=GroupedAdamW(
            objective.named_parameters(), config.learning_rate, weight_decay=config.weight_decay
        ),
        loss_scale=LossScale(config.precision == "fp16", base.device),
        batches=BatchMaker(
            items,
            training_set.taxonomy.names,
            config.batch_size * config.accumulate * accelerator.num_processes,
            draws,
            cache.latents,
            embeds,
            lambda text: prompt_ids(base.tokenizer, text, config.tokens, base.max_length),
        ),
        embeds=embeds,
        labels=torch.tensor([item.emotion for item in items]),
        data_fingerprint=fingerprint(samples),
    )


def build_objective(
    config: TrainConfig, base: BaseModel, taxonomy: Taxonomy, vision_width: int
) -> CoEmoGenObjective:
    """Make what is trained, its start a function of the seed alone, around the frozen base."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        mapper = NeuroSymbolicMapper(taxonomy.num_emotions, base.width, config.tokens, config.hidden)
        row_norm = vocabulary_row_norm(base.text_encoder)
        encoder = VisualPerceptionEncoder(base.width, vision_width, config.visual_tokens, row_norm)
        hilora = HiLoRA.for_unet(base.unet, taxonomy.polarity_of, config.rank, config.targets, config.alpha)
    embedder = EmotionEmbedder(mapper, encoder)
    return CoEmoGenObjective(base, embedder, hilora, config.semantic_loss, config.semantic_weight)


def training_samples(training_set: TrainingSet, captions_needed: bool) -> list[Sample]:
    """Give the kept samples of the training split, sorted by id.

    Raises:
        DataError: none at all, none of some emotion, or some without the caption that the semantic loss
            needs.
    """
    samples = training_set.samples("train", kept_only=True)
    if not samples:
        raise DataError(
            f"{training_set.root}: the set has no picture to train on; look at what `prepare` told."
        )
    used = {sample.emotion for sample in samples}
    if empty := [name for name in training_set.taxonomy.names if name not in used]:
        raise DataError(
            f"{training_set.root}: no picture to train on is kept for {', '.join(empty)}: add some, or take "
            "the emotion out of the taxonomy and prepare again."
        )
    silent = [sample.id for sample in samples if not sample.caption]
    if captions_needed and silent:
        raise DataError(
            f"{training_set.root}: {len(silent)} of {len(samples)} training pictures have no caption (such "
            f"as {silent[0]}); write them with `caption`, or train without: --set semantic_weight=0."
        )
    return samples


def training_items(samples: Sequence[Sample], taxonomy: Taxonomy) -> list[TrainingItem]:
    """Turn samples into what batches are made of."""
    return [
        TrainingItem(
            id=sample.id,
            emotion=taxonomy.index(sample.emotion),
            # A caption has no pseudo-words, whatever it says.
            caption=(sample.caption or "").replace("{emotion}", " "),
            content=content_words(sample.caption, sample.objects, sample.scene, taxonomy.names),
        )
        for sample in samples
    ]


def fingerprint(samples: Sequence[Sample]) -> str:
    """Give a hash of what is trained on: ids, contents, labels, captions and annotations."""
    told: list[Any] = [
        [sample.id, sample.sha256, sample.emotion, sample.caption, sample.scene, list(sample.objects)]
        for sample in samples
    ]
    return hashlib.sha256(canonical_json(told).encode("utf-8")).hexdigest()


def run_folders(out: Path) -> tuple[Path, Path, Path]:
    """Give where a run keeps its checkpoints, its previews and its history."""
    return out / "checkpoints", out / "previews", out / "history.jsonl"


def _check_base(base: BaseModel, config: TrainConfig) -> None:
    # The U-Net halves its latents once per level but the last, and must get them back whole.
    multiple = base.vae_factor * 2 ** (len(base.unet.config.block_out_channels) - 1)
    if config.resolution % multiple:
        near = max(multiple, round(config.resolution / multiple) * multiple)
        raise ConfigError(
            f"resolution {config.resolution} does not suit {base.name}, which needs a multiple of "
            f"{multiple}: take {near}."
        )


def _set_precision(base: BaseModel, config: TrainConfig) -> None:
    """Put the frozen U-Net into the precision of training, after the cache was made in float32.

    The text encoder stays in float32 (autocast still runs its products in half): it is small, and the cosine
    of the semantic loss is taken on its outputs.
    """
    dtype = _DTYPES[config.precision]
    if dtype != base.dtype:  # nn.Module's own `to`: diffusers' warns of modules that it does not name
        nn.Module.to(base.unet, dtype)
    if dtype == torch.bfloat16:  # SD 1.5's VAE overflows in float16
        nn.Module.to(base.vae, dtype)
    if config.gradient_checkpointing:
        base.unet.train()  # older diffusers checkpoint in train mode only; the U-Net has no dropout
        base.unet.enable_gradient_checkpointing()
