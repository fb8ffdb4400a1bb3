"""How Textual Inversion, DreamBooth and EmoGen are trained: CoEmoGen's step and data, another objective.

The set, its cache, the order of the pictures, noise and timesteps, optimiser, warm-up, precision, checkpoints
and history are those of `train`, so that what differs between methods is what they train. One process. Left
to CoEmoGen alone are shapes other than the square, and the options of its method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..adapter.condition import prompt_ids
from ..base.model import BaseModel
from ..data.cache import build_cache
from ..data.embeddings import EmbeddingCache
from ..train.accelerator import make_accelerator
from ..train.batches import Batch, BatchMaker, Draws
from ..train.config import TrainConfig
from ..train.folder_lock import run_lock
from ..train.frozen import load_frozen_base, park_unet, set_precision
from ..train.history import History
from ..train.items import TrainingItems
from ..train.objective import Losses, denoising_losses, min_snr_weights
from ..train.optimiser import GroupedAdamW
from ..train.peers import Peers
from ..train.precision import LossScale
from ..train.resume import save_run, take_up
from ..train.setup import Batches, Stepping, run_folders
from ..train.start import Start, begin
from ..train.step import optimise

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Ground:
    """What a fit stands on: its settings, its pictures, the frozen base, and the cache of both."""

    config: TrainConfig
    accelerator: Accelerator
    start: Start
    base: BaseModel
    cache: EmbeddingCache

    @property
    def names(self) -> tuple[str, ...]:
        """[E], the emotions."""
        return self.start.taxonomy.names

    @property
    def whole(self) -> int:
        """Samples per optimiser step."""
        return self.config.batch_size * self.config.accumulate

    @cached_property
    def items(self) -> TrainingItems:
        """The kept training pictures, in the order of `start.samples`."""
        return TrainingItems(self.start.samples, self.start.taxonomy)

    def batches(self, tokens: int = 1, image_embeds: Callable[[str], Tensor] | None = None) -> BatchMaker:
        """Batches whose prompt is the pseudo-words alone.

        tokens: places for pseudo-words. image_embeds: what stands in a batch for v, by a sample's id.
        """
        config, base = self.config, self.base
        nothing = torch.zeros(1)
        return BatchMaker(
            self.items,
            self.items.labels,
            self.whole,
            Draws(
                seed=config.seed,
                flip=config.flip,
                num_timesteps=int(base.noise_schedule().config.num_train_timesteps),
            ),
            self.cache.latents,
            image_embeds or (lambda sample_id: nothing),
            nothing.expand(len(self.names), 1),
            lambda text: prompt_ids(base.tokenizer, text, tokens, base.max_length),
        )


class Objective(nn.Module):
    """A batch in, its `Losses` out, around a frozen base that is no part of the module's state."""

    timestep_weights: Tensor

    def __init__(self, base: BaseModel, min_snr_gamma: float = 0.0) -> None:
        super().__init__()
        self._base = (base,)  # in a tuple, where nn.Module does not look for submodules
        self._schedule: Any = base.noise_schedule()
        weights = min_snr_weights(self._schedule.alphas_cumprod, min_snr_gamma, base.prediction_type)
        self.register_buffer("timestep_weights", weights.to(base.device), persistent=False)

    @property
    def base(self) -> BaseModel:
        return self._base[0]

    def denoise(self, batch: Batch, hidden: Tensor) -> Tensor:
        """L_LDM [B] of the U-Net under the condition `hidden` [B, L, W]."""
        return denoising_losses(self.base, self._schedule, batch, hidden)

    def weighted(self, batch: Batch, ldm: Tensor) -> Tensor:
        """L_LDM [B] under the weights of the batch's timesteps."""
        return ldm * self.timestep_weights[batch.timesteps]


def losses_of(
    per_sample: Tensor, ldm: Tensor, other: Tensor | None = None, presence: Tensor | None = None
) -> Losses:
    """The losses of a batch.

    per_sample: [B], what is minimised. ldm, other: [B], its parts before any weight. presence: [groups], see
        `GroupedAdamW`; None: nothing is stacked.
    """
    return Losses(
        total=per_sample.mean(),
        ldm=ldm.detach().mean(),
        semantic=ldm.new_zeros(()) if other is None else other.detach().mean(),
        per_sample=per_sample.detach(),
        presence=ldm.new_ones(1) if presence is None else presence.detach(),
    )


def settings_of(config: TrainConfig, folder: Path) -> TrainConfig:
    """The settings of a fit into `folder`, without those that are CoEmoGen's alone."""
    of_coemogen_alone: dict[str, Any] = {
        **{"init": None, "init_mode": "continue", "aspect_buckets": False, "cache_captions": False},
        **{"content_prompts": 0.0, "v_dropout": 0.0, "condition_dropout": 0.0, "semantic_weight": 0.0},
        **{"validate_every": 0, "preview_every": 0, "log_with": ()},
    }
    return config.model_copy(update={"out": folder, **of_coemogen_alone})


def prepare(config: TrainConfig, folder: Path, device: str | None = None) -> Ground:
    """Read, load and cache what a fit into `folder` needs.

    Raises:
        UserError: whatever of it is missing or does not fit, in one sentence.
    """
    config = settings_of(config, folder)
    accelerator = make_accelerator(device)
    start = begin(config, True, accelerator.device.type, accelerator.num_processes)
    base = load_frozen_base(config, start, accelerator.device)
    park_unet(base)
    cache = build_cache(start.training_set, base, None, config.resolution, config.flip)
    set_precision(base, config.precision, accelerator.device, config.gradient_checkpointing is True)
    return Ground(config, accelerator, start, base, cache)


def train_steps(
    ground: Ground, objective: nn.Module, batches: Batches, config: TrainConfig | None = None
) -> None:
    """Do the steps that are left of `config.steps`; `objective` then holds what was learned.

    Killed and called again it goes on from its newest checkpoint in `config.out`, and ends alike to the bit.

    Arguments:
        objective: a batch in, its `Losses` out; its state is what is kept.
        batches: a `BatchMaker`, or one with its `micro_batches`, `batch` and `sample_ids`.
        config: of these steps, where it is not the ground's own.

    Raises:
        TrainingDiverged: too many steps in a row had a loss or a gradient that is not finite; called again
            it says so at once.
    """
    config = config or ground.config
    with run_lock(config.out):
        run = _stepping(ground, objective, batches, config)
        checkpoints, _, history_file = run_folders(config.out)
        done, bad_in_a_row = take_up(run, resume=True)
        history = History(history_file, batches.sample_ids, config.max_bad_steps, bad_in_a_row)
        while done < config.steps:
            with _seeded(config.seed, done, run.device):
                history.add(optimise(run, done))
            done += 1
            save = done == config.steps or (config.save_every > 0 and done % config.save_every == 0)
            if save or done % config.log_every == 0:
                history.read()
            if save or history.diverged:
                save_run(run, checkpoints, done, history.bad_in_a_row)
            history.check()
    if config.ema_decay:
        with run.optimiser.averaged():
            averaged = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
        objective.load_state_dict(averaged)


def _stepping(ground: Ground, objective: nn.Module, batches: Batches, config: TrainConfig) -> Stepping:
    """What `train` steps with, around another objective than CoEmoGen's."""
    return Stepping(
        config=config,
        accelerator=ground.accelerator,
        start=ground.start,
        base=ground.base,
        objective=objective,
        model=ground.accelerator.prepare(objective),
        optimiser=GroupedAdamW(
            objective.named_parameters(),
            config.learning_rate,
            weight_decay=config.weight_decay,
            ema_decay=config.ema_decay,
        ),
        loss_scale=LossScale(config.precision == "fp16", ground.base.device),
        batches=batches,
        peers=Peers(ground.accelerator),
    )


@contextmanager
def _seeded(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Within the block torch's own draws (a dropout's) follow from seed and step, whenever it is done."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed((seed * 1_000_003 + step) % 2**63)
        yield
