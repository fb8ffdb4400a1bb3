"""What a training step is compared with, and the step itself, on one base and the same batches.

floor: the bare frozen U-Net forward and backward to its condition, which no method of this kind can be under.
ours: `optimise` as a run calls it. plain: `PlainLoop`; peft loop: the same with LoRA of rank 8; peft, encoded
before: LoRA of rank 8 from what is encoded already. All have the U-Net in one dtype without autocast.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coemogen_train.adapter.condition import encode_text, prompt_ids
from coemogen_train.base.model import BaseModel
from coemogen_train.data.shard_reader import ShardReader
from coemogen_train.data.shards import ShardStore
from coemogen_train.emotions import MIKELS
from coemogen_train.train.batches import Batch, BatchMaker, Draws
from coemogen_train.train.compiled import compile_blocks
from coemogen_train.train.config import TrainConfig
from coemogen_train.train.history import History
from coemogen_train.train.items import TrainingItem
from coemogen_train.train.objective import CoEmoGenObjective
from coemogen_train.train.precision import dtype_of
from coemogen_train.train.step import optimise

from ..measuring.models import CAPTION, Size, make_batch, make_objective
from ..measuring.stepping import VISION_WIDTH, made_config, stepping_around
from ..measuring.twins import twin
from .plain_loop import EXAMPLES_RANK, CachedLoop, PlainLoop, write_pictures

SIDES = ("floor", "ours", "plain", "peft loop", "peft, encoded before")
WITHOUT_LOOPS = SIDES[:2]
PEFT_RANK = 8
_PICTURES = 64  # of the set that is trained on


@dataclass(frozen=True)
class Case:
    """What is measured. resolution: in pixels. steps: that are timed at once, so that none is too short."""

    size: Size
    batch: int
    resolution: int
    precision: str = "fp32"
    compiled: bool = False
    checkpointed: bool = False
    steps: int = 1

    def __str__(self) -> str:
        name = {"sd15": "SD 1.5's shape", "toy": "toy"}[self.size]
        told = f"{name}, batch {self.batch}, {self.resolution} px, {self.precision}"
        return told + ", compiled" * self.compiled + ", checkpointed" * self.checkpointed

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


class Floor:
    """The frozen U-Net forward and backward to its condition, with nothing attached."""

    def __init__(self, unet: Any, base: BaseModel, batch: Batch) -> None:
        self.unet = unet
        self.noisy, self.timesteps = batch.latents.to(base.dtype), batch.timesteps
        size = len(batch.latents), base.max_length, base.cross_attention_dim
        generator = torch.Generator().manual_seed(1)
        self.hidden = torch.randn(*size, generator=generator).to(base.device, base.dtype)

    def step(self) -> Tensor:
        hidden = self.hidden.detach().requires_grad_()
        predicted = self.unet(self.noisy, self.timesteps, encoder_hidden_states=hidden).sample
        predicted.float().square().mean().backward()
        assert hidden.grad is not None  # noqa: S101
        return hidden.grad


class Ours:
    """The product's own step at its default settings, from a cache of latents on the disk.

    In it are: reading the batch, encoding prompt, pseudo-words and caption, HiLoRA, both losses, the check
    for what is not finite, clipping, AdamW of every group, and the losses written down every 10 steps.
    """

    def __init__(self, base: BaseModel, objective: CoEmoGenObjective, case: Case, folder: Path) -> None:
        config = made_config(
            {"batch_size": case.batch, "resolution": case.resolution, "precision": case.precision}
        )
        self.run = stepping_around(base, objective, config, make_batches(config, base, folder))
        self.history = History(folder / "history.jsonl", self.run.batches.sample_ids, config.max_bad_steps)
        self.done = 0

    def step(self) -> None:
        self.history.add(optimise(self.run, self.done))
        self.done += 1
        if self.done % self.run.config.log_every == 0:
            self.history.read()
            self.history.check()


class LeftOut(Exception):
    """Why a case cannot be measured on this machine."""


class Sides:
    """The sides of all cases that share a base: the same frozen weights under each.

    Args:
        base: in the precision of the cases. folder: where pictures, cache and history may be written.
        compiled: whether the blocks of the U-Net are compiled, for the floor and for us.

    Raises:
        LeftOut: nothing can be compiled on this machine.
    """

    def __init__(self, base: BaseModel, folder: Path, compiled: bool = False) -> None:
        self.base, self.folder = base, folder
        self.bare = twin(base.unet)
        self.objective = make_objective(base, MIKELS, VISION_WIDTH)
        if compiled and not all(compile_blocks(unet, base.device) for unet in (self.bare, base.unet)):
            raise LeftOut("torch.compile does not work here")

    def works(self, case: Case, names: Collection[str] = SIDES) -> dict[str, Callable[[], None]]:
        """By name, what does `case.steps` steps."""
        base, folder = self.base, self.folder / f"{case.size}-{case.resolution}-{case.batch}"
        for unet in (self.bare, base.unet):
            set_checkpointing(unet, case.checkpointed)
        batch = make_batch(base, MIKELS, case.batch, case.resolution, VISION_WIDTH)

        def plain(rank: int) -> PlainLoop:
            files = write_pictures(folder / "pictures", max(2 * case.batch, 8), case.resolution)
            captions = [caption_of(number) for number in range(len(files))]
            dtype = dtype_of(case.precision)
            return PlainLoop(base, twin(self.bare), files, captions, case.batch, dtype, rank)

        def cached() -> CachedLoop:
            hidden = encoded_captions(base, case.batch)
            return CachedLoop(twin(self.bare), base.noise_schedule(), batch, hidden, PEFT_RANK)

        made: dict[str, Callable[[], Any]] = {
            "floor": lambda: Floor(self.bare, base, batch),
            "ours": lambda: Ours(base, self.objective, case, folder),
            "plain": lambda: plain(EXAMPLES_RANK),
            "peft loop": lambda: plain(PEFT_RANK),
            "peft, encoded before": cached,
        }
        return {name: _several(made[name]().step, case.steps) for name in names}


def make_batches(config: TrainConfig, base: BaseModel, folder: Path) -> BatchMaker:
    """The batches of a set of pictures of all emotions, whose latents are in a cache on the disk."""
    emotions = MIKELS.num_emotions
    items = [
        TrainingItem(_digest(number), number % emotions, caption_of(number), ("bench", "bare trees"))
        for number in range(_PICTURES)
    ]
    embeds = torch.randn(_PICTURES, VISION_WIDTH, generator=torch.Generator().manual_seed(2))
    by_id = {item.id: row for item, row in zip(items, embeds, strict=True)}
    latents = _latents_on_disk(folder, [item.id for item in items], base, config.resolution)
    return BatchMaker(
        items,
        np.array([item.emotion for item in items]),
        config.batch_size,
        Draws(config.seed, config.flip, config.content_prompts, config.v_dropout, config.condition_dropout),
        latents,
        by_id.__getitem__,
        torch.stack([embeds[number::emotions].mean(0) for number in range(emotions)]),
        lambda text: prompt_ids(base.tokenizer, text, config.tokens, base.max_length),
    )


@torch.no_grad()
def encoded_captions(base: BaseModel, count: int) -> Tensor:
    """What the text encoder makes of `count` captions: [count, L, W] float32."""
    ids = [prompt_ids(base.tokenizer, caption_of(n), 1, base.max_length).input_ids for n in range(count)]
    eos = int(base.tokenizer.eos_token_id)
    return encode_text(base.text_encoder, torch.stack(ids).to(base.device), eos).hidden


def caption_of(number: int) -> str:
    """Captions that differ, so that none is encoded once for all."""
    return f"{CAPTION}, {number}"


def set_checkpointing(unet: Any, on: bool) -> None:
    """Compute the blocks again in the backward pass, or not; as a run does it."""
    unet.train(on)  # older diffusers checkpoint in train mode only; the U-Net has no dropout
    if on:
        unet.enable_gradient_checkpointing()
    else:
        unet.disable_gradient_checkpointing()


def _several(step: Callable[[], object], count: int) -> Callable[[], None]:
    def steps() -> None:
        for _ in range(count):
            step()

    return steps


def _latents_on_disk(
    folder: Path, ids: list[str], base: BaseModel, resolution: int
) -> Callable[[str, bool], tuple[Tensor, Tensor]]:
    """Latents as the cache keeps them, mirrored ones too: id, mirrored -> mean and deviation [C, h, w]."""
    side = resolution // base.vae_factor
    size = base.latent_channels, side, side
    generator = torch.Generator().manual_seed(3)
    store = ShardStore.plan(folder / "cache", "latents", {"of": "numbers drawn at random"}, ids)
    for shard in store.shards:
        rows = len(shard.members), *size
        values = torch.randn(4, *rows, generator=generator).half()
        names = ("mean", "std", "mean_flipped", "std_flipped")
        store.write(
            shard,
            dict(zip(names, (values[0], values[1].abs() / 10, values[2], values[3].abs() / 10), strict=True)),
        )
    reader = ShardReader(store, memory_limit=0)

    def latents(sample_id: str, flip: bool) -> tuple[Tensor, Tensor]:
        end = "_flipped" if flip else ""
        mean, deviation = reader.rows(sample_id, f"mean{end}", f"std{end}")
        return mean, deviation

    return latents


def _digest(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()
