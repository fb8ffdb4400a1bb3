"""Batches as a pure function of (seed, step, position in the effective batch).

Nothing about the order of samples or the random numbers is stored anywhere: a resumed run draws what an
uninterrupted one would have drawn, two processes draw different noise, and splitting an effective batch
otherwise (accumulation, processes) draws the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..adapter.condition import PromptIds
from .items import Labels, TrainingItem
from .prompts import neutral_prompt

# Streams of random numbers that must not depend on one another.
_EMOTIONS, _EPOCH, _SAMPLE, _HELD_OUT = range(4)
# Token ids that are kept: more than an effective batch has prompts, less than a large set has captions.
_PROMPTS_KEPT = 2048


@dataclass(frozen=True)
class Batch:
    """A micro-batch of B samples.

    latents: [B, C, h, w] float32, clean, in the U-Net's scale; noise: alike.
    timesteps: [B] int64.
    image_embeds: [B, V] float32, v; emotion: [B, E] float32, y, one-hot.
    prompt_ids: [B, L] int64, the text around the pseudo-words, which stand from `prompt_start` [B] int64 on.
    caption_ids: [B, L] int64, the caption c.
    drop_condition: [B] bool, the U-Net gets the empty prompt.
    caption_hidden, caption_pooled: [B, L, W] and [B, P] float32, T(c) where it is cached, or the one of them
        that the loss takes; None: it is computed from `caption_ids`.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    image_embeds: Tensor
    emotion: Tensor
    prompt_ids: Tensor
    prompt_start: Tensor
    caption_ids: Tensor
    drop_condition: Tensor
    caption_hidden: Tensor | None = None
    caption_pooled: Tensor | None = None

    def pin_memory(self) -> Batch:
        """Copy to memory from which a CUDA device reads without being waited for."""
        return self._each(Tensor.pin_memory)

    def to(self, device: torch.device) -> Batch:
        """Copy to `device`, without waiting where it is a CUDA device."""
        if device.type == "cpu":
            return self
        here = self.pin_memory() if device.type == "cuda" else self
        return here._each(lambda tensor: tensor.to(device, non_blocking=True))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return Batch(**{name: change(tensor) for name, tensor in named.items() if tensor is not None})


@dataclass(frozen=True)
class Draws:
    """How often what is drawn; all shares in 0..1."""

    seed: int = 0
    flip: bool = False
    content_prompts: float = 0.0
    v_dropout: float = 0.0
    condition_dropout: float = 0.0
    num_timesteps: int = 1000


class BalancedOrder:
    """The endless order of samples: emotions equally often, each emotion's pictures in shuffled epochs.

    The paper oversamples at random to balance the classes. Here each run of E draws is a shuffled list of the
    E emotions that have pictures, so that draw i and its sample follow from i alone, and no emotion is ever
    far behind. An emotion without pictures is one that is carried along untrained; who means to train it has
    been told before (`preflight`).
    """

    def __init__(self, labels: Labels, num_emotions: int, seed: int) -> None:
        """labels: [n], the number of each item's emotion."""
        self.seed = seed
        self.by_emotion = [np.flatnonzero(labels == number) for number in range(num_emotions)]
        self._trained = [number for number, members in enumerate(self.by_emotion) if len(members)]
        self._epochs: dict[int, tuple[int, Tensor]] = {}

    def index(self, draw: int) -> int:
        """Give the index of the item that draw number `draw` takes."""
        count = len(self._trained)
        turn, place = divmod(draw, count)
        order = torch.randperm(count, generator=_generator(self.seed, _EMOTIONS, turn))
        emotion = self._trained[int(order[place])]
        members = self.by_emotion[emotion]
        epoch, position = divmod(turn, len(members))
        kept = self._epochs.get(emotion)
        if kept is None or kept[0] != epoch:
            generator = _generator(self.seed, _EPOCH, emotion, epoch)
            kept = epoch, torch.randperm(len(members), generator=generator)
            self._epochs[emotion] = kept  # which another thread may replace: only `kept` is read
        return int(members[int(kept[1][position])])


class BatchMaker:
    """Makes the batches of a run from cached latents and embeddings.

    Arguments:
        items: the kept training pictures, in a fixed order. labels: [n], their emotions.
        effective_batch: samples per optimiser step over all micro-batches and processes.
        draws: the seed and the shares.
        latents: (sample id, flipped) -> mean and standard deviation of the VAE's posterior [C, h, w], U-Net's
            scale.
        image_embeds: sample id -> v [V].
        emotion_means: [E, V], the mean v of each emotion's items.
        encode_prompt: text with at most one `{emotion}` -> token ids.
        captions: caption -> T(c) as it is cached, by its name in `Batch`; None: it is not.
        buckets: [n], the shape in which each item's latents are; None: all have one.
    """

    def __init__(
        self,
        items: Sequence[TrainingItem],
        labels: Labels,
        effective_batch: int,
        draws: Draws,
        latents: Callable[[str, bool], tuple[Tensor, Tensor]],
        image_embeds: Callable[[str], Tensor],
        emotion_means: Tensor,
        encode_prompt: Callable[[str], PromptIds],
        captions: Callable[[str], Mapping[str, Tensor]] | None = None,
        buckets: Labels | None = None,
    ) -> None:
        self.items, self.effective_batch, self.draws = items, effective_batch, draws
        num_emotions = len(emotion_means)
        self._order = BalancedOrder(labels, num_emotions, draws.seed)
        self._one_hot = torch.eye(num_emotions)
        self._latents, self._image_embeds, self.emotion_means = latents, image_embeds, emotion_means
        self._ids = lru_cache(_PROMPTS_KEPT)(encode_prompt)
        self._captions, self._buckets = captions, buckets

    def sample_ids(self, step: int) -> list[str]:
        """Name the samples of optimiser step `step`, in the order of their positions."""
        return [self._item(step, position).id for position in range(self.effective_batch)]

    def micro_batches(self, step: int, size: int, process: int, processes: int) -> list[list[int]]:
        """Divide the positions of optimiser step `step`; give those of one process's micro-batches.

        What is in a micro-batch has latents of one shape: positions are grouped by bucket, and each group cut
        into runs of at most `size`, so that there may be more of them than without buckets, and some smaller.
        Processes take turns, and each gets one at least. Without buckets, or where all pictures are in one,
        each has as many as any other, all of `size`.
        """
        groups: dict[int, list[int]] = {}
        for position in range(self.effective_batch):
            index = 0 if self._buckets is None else self._index(step, position)
            groups.setdefault(0 if self._buckets is None else int(self._buckets[index]), []).append(position)
        runs = [
            group[start : start + size]
            for _, group in sorted(groups.items())
            for start in range(0, len(group), size)
        ]
        return runs[process::processes]

    def batch(self, step: int, positions: Iterable[int]) -> Batch:
        """Make the micro-batch of these positions (0 .. effective_batch - 1) of optimiser step `step`."""
        samples = [self._sample(step, position) for position in positions]
        return Batch(**{name: torch.stack([sample[name] for sample in samples]) for name in samples[0]})

    def _index(self, step: int, position: int) -> int:
        return self._order.index(step * self.effective_batch + position)

    def _item(self, step: int, position: int) -> TrainingItem:
        return self.items[self._index(step, position)]

    def _sample(self, step: int, position: int) -> dict[str, Tensor]:
        """Make one sample; what is drawn, and in which order, must never depend on the settings."""
        item, draws = self._item(step, position), self.draws
        generator = _generator(draws.seed, _SAMPLE, step, position)
        flip, content, place, mean_v, drop = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
        timestep = torch.randint(draws.num_timesteps, (), generator=generator)
        mean, std = self._latents(item.id, draws.flip and flip < 0.5)
        posterior, noise = torch.randn(2, *mean.shape, generator=generator)

        in_prompt = bool(item.content) and content < draws.content_prompts
        prompt = self._ids(neutral_prompt(item.content, place) if in_prompt else "{emotion}")
        use_mean = in_prompt or mean_v < draws.v_dropout
        return {
            "latents": mean.float() + std.float() * posterior,
            "noise": noise,
            "timesteps": timestep,
            "image_embeds": self.emotion_means[item.emotion] if use_mean else self._image_embeds(item.id),
            "emotion": self._one_hot[item.emotion],
            "prompt_ids": prompt.input_ids,
            "prompt_start": torch.tensor(prompt.start),
            "caption_ids": self._ids(item.caption).input_ids,
            "drop_condition": torch.tensor(drop < draws.condition_dropout),
            **(self._captions(item.caption) if self._captions is not None else {}),
        }

    def held_out(
        self, items: Sequence[TrainingItem], latents: Tensor, image_embeds: Tensor, timesteps: Tensor
    ) -> Batch:
        """Make a batch whose noise hangs on the pictures alone: the same in every run and at every step.

        Arguments:
            items: B held-out pictures, in the plain trained form "{emotion}" and under their own v.
            latents: [B, C, h, w]. image_embeds: [B, V]. timesteps: [B] int64.
        """
        prompt = self._ids("{emotion}")
        noise = [
            torch.randn(latents.shape[1:], generator=_generator(_HELD_OUT, item.id, timestep))
            for item, timestep in zip(items, timesteps.tolist(), strict=True)
        ]
        return Batch(
            latents=latents,
            noise=torch.stack(noise),
            timesteps=timesteps,
            image_embeds=image_embeds,
            emotion=self._one_hot[[item.emotion for item in items]],
            prompt_ids=prompt.input_ids.expand(len(items), -1),
            prompt_start=torch.full((len(items),), prompt.start),
            caption_ids=torch.stack([self._ids(item.caption).input_ids for item in items]),
            drop_condition=torch.zeros(len(items), dtype=torch.bool),
        )


def _generator(*parts: int | str) -> torch.Generator:
    """Make a CPU generator whose numbers depend on all of `parts` and on nothing else."""
    digest = hashlib.blake2b(",".join(map(str, parts)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
