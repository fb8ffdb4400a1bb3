"""A run of made-up data around a made-up base: what `optimise` steps with, without set, cache or folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from coemogen_train.adapter.condition import prompt_ids
from coemogen_train.base.model import BaseModel, freeze
from coemogen_train.emotions import MIKELS
from coemogen_train.train.accelerator import make_accelerator
from coemogen_train.train.batches import BatchMaker, Draws
from coemogen_train.train.config import TrainConfig, make_config
from coemogen_train.train.frozen import set_precision
from coemogen_train.train.items import TrainingItem
from coemogen_train.train.objective import CoEmoGenObjective
from coemogen_train.train.optimiser import GroupedAdamW
from coemogen_train.train.precision import LossScale
from coemogen_train.train.setup import Stepping

from .models import CAPTION, Size, make_base, make_objective

if TYPE_CHECKING:
    from coemogen_train.train.start import Start

# Four of each emotion; the seconds of a step do not hang on how many there are.
PICTURES = 32
VISION_WIDTH = 768


def made_config(settings: Mapping[str, Any]) -> TrainConfig:
    """The defaults of a run, under `settings`; what they name is not read."""
    return make_config({"base": "toy", "vision": "toy", "set": "set", "out": "out", **settings})


def make_stepping(size: Size, config: TrainConfig, device: torch.device, checkpointing: bool) -> Stepping:
    """A run that is ready to step, at default settings but for precision, resolution and batch.

    Its base lies in memory and in type as `prepare_run` puts it; its latents and embeddings are random
    numbers in memory, in the place of a cache on a disk.
    """
    base = make_base(size, torch.device("cpu"))
    for part in (base.unet, base.vae, base.text_encoder):
        freeze(part, "cpu", torch.float32)
    set_precision(base, config.precision, device, checkpointing)
    for part in (base.vae, base.text_encoder):
        torch.nn.Module.to(part, device)
    return stepping_around(
        base, make_objective(base, MIKELS, VISION_WIDTH), config, _made_batches(config, base)
    )


def stepping_around(
    base: BaseModel, objective: CoEmoGenObjective, config: TrainConfig, batches: BatchMaker
) -> Stepping:
    """A run that is ready to step, of parts that are there; on the device of `base`."""
    accelerator = make_accelerator(str(base.device))
    return Stepping(
        config=config,
        accelerator=accelerator,
        start=cast("Start", None),  # read by checkpoints alone
        base=base,
        objective=objective,
        model=accelerator.prepare(objective),
        optimiser=GroupedAdamW(
            objective.named_parameters(), config.learning_rate, weight_decay=config.weight_decay
        ),
        loss_scale=LossScale(config.precision == "fp16", base.device),
        batches=batches,
    )


def _made_batches(config: TrainConfig, base: BaseModel) -> BatchMaker:
    side = config.resolution // base.vae_factor
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(PICTURES, base.latent_channels, side, side, generator=generator)
    std = torch.full_like(mean[0], 0.1)
    embeds = torch.randn(PICTURES, VISION_WIDTH, generator=generator)
    emotions = np.arange(PICTURES, dtype=np.int64) % MIKELS.num_emotions
    return BatchMaker(
        [TrainingItem(str(number), int(emotions[number]), CAPTION) for number in range(PICTURES)],
        emotions,
        config.batch_size * config.accumulate,
        Draws(seed=config.seed, flip=config.flip, condition_dropout=config.condition_dropout),
        lambda name, _flipped: (mean[int(name)], std),
        lambda name: embeds[int(name)],
        embeds[: MIKELS.num_emotions],
        lambda text: prompt_ids(base.tokenizer, text, config.tokens, base.max_length),
    )
