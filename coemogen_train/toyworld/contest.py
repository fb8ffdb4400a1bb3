"""The contest of the demo: who draws what from which prompt, and the pictures of each contestant."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from ..adapter.file import Adapter
from ..adapter.gaussian_fit import fit_gaussians
from ..adapter.gaussians import EmotionGaussians
from ..base.generate import encode_prompts, generate_from_adapter
from ..base.model import BaseModel
from ..base.sampling import SamplingSettings, generate_images, noise_seeds, to_images
from ..data.embeddings import EmbeddingCache
from ..data.pixels import to_pixels
from ..data.samples import Sample
from .judges import Judges

GUIDANCES = (1.5, 3.0, 5.0)
"""Guidance scales among which each contestant has its best chosen, on pictures that are not in the table."""

Draw = Callable[[Sequence[str], int, SamplingSettings], list[Image.Image]]
"""draw(intended emotions, seed, settings): one picture per emotion."""


@dataclass(frozen=True)
class Contestant:
    """key: its name in the JSON; title, note: its line in the table; kind: "baseline" or "ours"."""

    key: str
    title: str
    note: str
    kind: str
    draw: Draw


def draw_from_prompts(base: BaseModel, prompt_of: Callable[[str, random.Random], str]) -> Draw:
    """The bare base model, prompted with a text per picture."""

    def draw(intended: Sequence[str], seed: int, settings: SamplingSettings) -> list[Image.Image]:
        rng = random.Random(f"prompts {seed}")
        embeds = encode_prompts(base, [prompt_of(emotion, rng) for emotion in intended])
        negative = encode_prompts(base, [""])
        return generate_images(base, embeds, negative, noise_seeds(seed, len(intended)), settings)

    return draw


def draw_from_adapter(
    base: BaseModel,
    adapter: Adapter,
    branches: Literal["both", "conditional"],
    embeds_of: Callable[[Sequence[str], int], Tensor] | None = None,
) -> Draw:
    """The adapter on the base; embeds_of: image embeddings [n, V] in place of the Gaussians' draws."""
    names = adapter.info.taxonomy.names

    def draw(intended: Sequence[str], seed: int, settings: SamplingSettings) -> list[Image.Image]:
        rows = torch.eye(len(names))[[names.index(emotion) for emotion in intended]]
        embeds = embeds_of(intended, seed) if embeds_of else None
        chosen = replace(settings, hilora_branches=branches)
        return generate_from_adapter(base, adapter, rows, seed, chosen, image_embeds=embeds)

    return draw


def gaussian_embeds(
    gaussians: EmotionGaussians, names: Sequence[str]
) -> Callable[[Sequence[str], int], Tensor]:
    """Embeddings from other Gaussians than the adapter's own."""

    def embeds_of(intended: Sequence[str], seed: int) -> Tensor:
        rows = torch.eye(len(names))[[list(names).index(emotion) for emotion in intended]]
        return gaussians.sample(rows, seed)

    return embeds_of


def held_out_embeds(features: Tensor, labels: Sequence[str]) -> Callable[[Sequence[str], int], Tensor]:
    """Embeddings of real held-out pictures of the intended emotion: what perfect Gaussians would give."""

    def embeds_of(intended: Sequence[str], seed: int) -> Tensor:
        rng = random.Random(f"held out {seed}")
        rows = {name: [i for i, label in enumerate(labels) if label == name] for name in set(labels)}
        return features[[rng.choice(rows[emotion]) for emotion in intended]]

    return embeds_of


def through_autoencoder(base: BaseModel, pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """The pictures encoded and decoded by the base: the best that any of its samples can look."""
    decoded: list[Image.Image] = []
    for start in range(0, len(pictures), 48):
        mean, _ = base.encode_latents(to_pixels(list(pictures[start : start + 48])))
        decoded += to_images(base.decode_latents(mean))
    return decoded


def enter_contestants(
    base: BaseModel,
    adapter: Adapter,
    kept: Sequence[Sample],
    cache: EmbeddingCache,
    judges: Judges,
    seed: int,
) -> dict[str, Contestant]:
    """All rows of the demo's table that draw, by key; kept: the training pictures behind the adapter."""
    names = adapter.info.taxonomy.names
    sentences = {name: [str(sample.caption) for sample in kept if sample.emotion == name] for name in names}
    embeds = torch.stack([cache.image_embeds(sample.id) for sample in kept])
    labels = torch.tensor([names.index(sample.emotion) for sample in kept])
    single = fit_gaussians(embeds, labels, len(names), "full", components=1, seed=seed)
    held_out = held_out_embeds(torch.from_numpy(judges.real_features), judges.test_labels)
    by_name = draw_from_prompts(base, lambda emotion, rng: f"an image of {emotion}")
    by_sentence = draw_from_prompts(base, lambda emotion, rng: rng.choice(sentences[emotion]))
    conditional = draw_from_adapter(base, adapter, "conditional")
    both = draw_from_adapter(base, adapter, "both")
    one = draw_from_adapter(base, adapter, "conditional", gaussian_embeds(single, names))
    real = draw_from_adapter(base, adapter, "conditional", held_out)
    rows = (
        ("base", "base, the emotion's name", "prompt “an image of fear”", "baseline", by_name),
        ("sentences", "base, sampled sentences", "captions of the training set", "baseline", by_sentence),
        ("adapter", "CoEmoGen", "HiLoRA on the conditional branch, several Gaussians", "ours", conditional),
        ("both_branches", "CoEmoGen, HiLoRA on both branches", "several Gaussians", "ours", both),
        ("single_gaussian", "CoEmoGen, one Gaussian per emotion", "the paper's sampling", "ours", one),
        ("real_v", "CoEmoGen, v of real held-out pictures", "as perfect Gaussians would be", "ours", real),
    )
    return {row[0]: Contestant(*row) for row in rows}
