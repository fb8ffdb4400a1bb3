"""Where v comes from when pictures are drawn, in the experiments about the Gaussians."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ...adapter.gaussian_fit import fit_gaussians
from ...base.vision import load_vision
from ...data.cache import build_cache
from ...data.samples import TrainingSet
from ...methods import EmbedsOf
from ...train.config import TrainConfig
from ...train.pictures import training_samples
from ..pictures import LabelledPictures

Gaussians = tuple[Literal["full", "diagonal"], int | Literal["auto"]]
"""Covariance, and number for each emotion."""

Source = Literal["gaussians", "mean", "real"] | Gaussians


def drawing_embeds(source: Source, config: TrainConfig, real: LabelledPictures) -> EmbedsOf | None:
    """The source that a row names; None: the adapter's own Gaussians.

    source: "gaussians", "mean" (of each emotion's training pictures), "real" (of held-out pictures), or
        (covariance, number per emotion) of Gaussians that are fitted here.
    """
    if source == "gaussians":
        return None
    if source == "real":
        return _of_pictures(config.vision, real)
    return _of_training(source, config)


def _of_pictures(vision: str, real: LabelledPictures) -> EmbedsOf:
    clip = load_vision(vision)
    features = clip.encode_images([real.load(i) for i in range(len(real.paths))])
    rows = {name: [i for i, label in enumerate(real.emotions) if label == name] for name in real.emotions}

    def embeds_of(intended: Sequence[str], seed: int) -> Tensor:
        chosen = [random.Random(f"held out {seed + i}").choice(rows[name]) for i, name in enumerate(intended)]
        return features[chosen]

    return embeds_of


def _of_training(source: Literal["mean"] | Gaussians, config: TrainConfig) -> EmbedsOf:
    training_set = TrainingSet.open(Path(config.set))
    taxonomy = training_set.taxonomy
    kept = training_samples(training_set, taxonomy, config.semantic_weight > 0)
    embeds = build_cache(training_set, clip=load_vision(config.vision)).embeds_of(kept)
    labels = torch.tensor([taxonomy.index(sample.emotion) for sample in kept])
    if source == "mean":
        means = torch.stack([embeds[labels == number].mean(0) for number in range(len(taxonomy.names))])
        return lambda intended, seed: means[[taxonomy.index(name) for name in intended]]
    covariance, components = source
    gaussians = fit_gaussians(
        embeds, labels, len(taxonomy.names), covariance, components=components, seed=config.seed
    )
    one_hot = torch.eye(len(taxonomy.names))

    def embeds_of(intended: Sequence[str], seed: int) -> Tensor:
        return gaussians.sample(one_hot[[taxonomy.index(name) for name in intended]], seed)

    return embeds_of
