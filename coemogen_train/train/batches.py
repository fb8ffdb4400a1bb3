"""Batches as a pure function of (seed, step, position in the effective batch).

Nothing about the order of samples or the random numbers is stored anywhere: a resumed run draws what an
uninterrupted one would have drawn, two processes draw different noise, and splitting an effective batch
otherwise (accumulation, processes) draws the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..adapter.condition import PromptIds
from .prompts import neutral_prompt

# Streams of random numbers that must not depend on one another.
_EMOTIONS, _EPOCH, _SAMPLE, _HELD_OUT = range(4)


@dataclass(frozen=True)
class TrainingItem:
    """What a batch needs to know of one picture; `content` is what stands in its neutral prompts."""

    id: str
    emotion: int
    caption: str = ""
    content: tuple[str, ...] = ()


@dataclass(frozen=True)
class Batch:
    """A micro-batch of B samples.

    latents: [B, C, h, w] float32, clean, in the U-Net's scale; noise: alike.
    timesteps: [B] int64.
    image_embeds: [B, V] float32, v; emotion: [B, E] float32, y, one-hot.
    prompt_ids: [B, L] int64, the text around the pseudo-words, which stand from `prompt_start` [B] int64 on.
    caption_ids: [B, L] int64, the caption c.
    drop_condition: [B] bool, the U-Net gets the empty prompt.
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

    def to(self, device: torch.device) -> Batch:
        """Copy to `device`, without waiting where it is a CUDA device."""
        if device.type == "cpu":
            return self
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        if device.type == "cuda":
            tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
        return Batch(**{name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()})


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

    def __init__(self, items: Sequence[TrainingItem], num_emotions: int, seed: int) -> None:
        self.seed = seed
        self.by_emotion: list[list[int]] = [[] for _ in range(num_emotions)]
        for index, item in enumerate(items):
            self.by_emotion[item.emotion].append(index)
        self._trained = [number for number, members in enumerate(self.by_emotion) if members]
        self._epochs: dict[int, tuple[int, list[int]]] = {}

    def index(self, draw: int) -> int:
        """Give the index of the item that draw number `draw` takes."""
        count = len(self._trained)
        turn, place = divmod(draw, count)
        order = torch.randperm(count, generator=_generator(self.seed, _EMOTIONS, turn))
        emotion = self._trained[int(order[place])]
        members = self.by_emotion[emotion]
        epoch, position = divmod(turn, len(members))
        if self._epochs.get(emotion, (-1, []))[0] != epoch:
            generator = _generator(self.seed, _EPOCH, emotion, epoch)
            self._epochs[emotion] = (epoch, torch.randperm(len(members), generator=generator).tolist())
        return members[self._epochs[emotion][1][position]]


class BatchMaker:
    """Makes the batches of a run from cached latents and embeddings.

    Arguments:
        items: the kept training pictures, in a fixed order.
        num_emotions: E, of the taxonomy.
        effective_batch: samples per optimiser step over all micro-batches and processes.
        draws: the seed and the shares.
        latents: (sample id, flipped) -> mean and standard deviation of the VAE's posterior [C, h, w], U-Net's
            scale.
        image_embeds: [len(items), V], v of each item.
        encode_prompt: text with at most one `{emotion}` -> token ids.
    """

    def __init__(
        self,
        items: Sequence[TrainingItem],
        num_emotions: int,
        effective_batch: int,
        draws: Draws,
        latents: Callable[[str, bool], tuple[Tensor, Tensor]],
        image_embeds: Tensor,
        encode_prompt: Callable[[str], PromptIds],
    ) -> None:
        self.items, self.effective_batch, self.draws = items, effective_batch, draws
        self._order = BalancedOrder(items, num_emotions, draws.seed)
        self._one_hot = torch.eye(num_emotions)
        self._latents, self._image_embeds = latents, image_embeds.float()
        self.emotion_means = torch.stack(
            [self._image_embeds[members].sum(0) / max(1, len(members)) for members in self._order.by_emotion]
        )
        self._encode_prompt = encode_prompt
        self._encoded: dict[str, PromptIds] = {}

    def sample_ids(self, step: int) -> list[str]:
        """Name the samples of optimiser step `step`, in the order of their positions."""
        return [self._item(step, position)[1].id for position in range(self.effective_batch)]

    def batch(self, step: int, positions: Iterable[int]) -> Batch:
        """Make the micro-batch of these positions (0 .. effective_batch - 1) of optimiser step `step`."""
        samples = [self._sample(step, position) for position in positions]
        return Batch(**{name: torch.stack([sample[name] for sample in samples]) for name in samples[0]})

    def _item(self, step: int, position: int) -> tuple[int, TrainingItem]:
        index = self._order.index(step * self.effective_batch + position)
        return index, self.items[index]

    def _sample(self, step: int, position: int) -> dict[str, Tensor]:
        """Make one sample; what is drawn, and in which order, must never depend on the settings."""
        index, item = self._item(step, position)
        draws = self.draws
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
            "image_embeds": self.emotion_means[item.emotion] if use_mean else self._image_embeds[index],
            "emotion": self._one_hot[item.emotion],
            "prompt_ids": prompt.input_ids,
            "prompt_start": torch.tensor(prompt.start),
            "caption_ids": self._ids(item.caption).input_ids,
            "drop_condition": torch.tensor(drop < draws.condition_dropout),
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

    def _ids(self, prompt: str) -> PromptIds:
        if prompt not in self._encoded:
            self._encoded[prompt] = self._encode_prompt(prompt)
        return self._encoded[prompt]


def _generator(*parts: int | str) -> torch.Generator:
    """Make a CPU generator whose numbers depend on all of `parts` and on nothing else."""
    digest = hashlib.blake2b(",".join(map(str, parts)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
