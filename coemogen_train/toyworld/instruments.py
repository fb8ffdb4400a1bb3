"""The toy world's instruments: what Inception, LPIPS, ImageNet and the probes are to photographs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..base.vision import ClipEncoder, load_vision
from ..data.cache import build_cache
from ..data.embeddings import EmbeddingCache
from ..data.images import load_rgb
from ..data.rows import Sample, SampleRows
from ..data.samples import TrainingSet
from ..evaluate.encoders import ClipFeatures, PerceptualDistance, square
from ..evaluate.instruments import (
    EncodePictures,
    Features,
    Instruments,
    PictureProbe,
    StoryReader,
    TopProbability,
)
from ..evaluate.probes import EmotionProbe, fit_probe
from ..files import canonical_json, sha256_file
from .canvas import PICTURE_SIZE
from .narratives import ALL_NARRATIVES
from .recogniser import FEATURES, StoryRecogniser, load_recogniser, picture_pixels

_VERSION = 1  # raised whenever a figure would come out otherwise
_WEIGHTS = Path(__file__).parent / "weights" / "recogniser.safetensors"
_BATCH = 64
_SPLITS = ("train", "test")


def toy_instruments(
    training_set: TrainingSet, cache: EmbeddingCache | None = None, seed: int = 0
) -> Instruments:
    """Instruments whose probes are trained on the train split of a toy set and scored on its test split.

    The recogniser stands for Inception, with the average of its last maps as there, for LPIPS's network and
    for both classifiers: it neither conditions the generator nor filters the data. The toy CLIP is CLIP.

    Arguments:
        cache: with the set's CLIP features; None: it is opened, and built where there is none.
        seed: of the probes.
    """
    clip, recogniser = _encoders()
    train, names = training_set.samples("train"), training_set.taxonomy.names

    def by_clip() -> PictureProbe:
        features = cache if cache is not None else build_cache(training_set, clip=clip)
        seen = [features.embeds_of(training_set.samples(split)).numpy() for split in _SPLITS]
        fitted = _fit(training_set, seen, clip.name, seed)
        return PictureProbe(replace(fitted, encoder=clip.fingerprint), ClipFeatures(clip))

    def by_recogniser() -> PictureProbe:
        seen = [_embed(recogniser, training_set.samples(split)) for split in _SPLITS]
        return PictureProbe(_fit(training_set, seen, "story recogniser", seed), _embedding(recogniser))

    narratives = {name: frozenset(ALL_NARRATIVES[name]) for name in names}
    return Instruments(
        inception=_pooled(recogniser),
        perceptual=PerceptualDistance(_layer_distance(recogniser)),
        clip=clip,
        classifiers={name: _top(recogniser, name) for name in ("object", "relation")},
        probes=_MadeWhenAsked({"clip": by_clip, "second": by_recogniser}),
        fingerprint=_fingerprint(clip, train, names, seed),
        stories=StoryReader(lambda pictures: recogniser.read_stories(_small(pictures)), narratives),
    )


class _MadeWhenAsked(Mapping[str, PictureProbe]):
    """Probes that are trained when one is first looked up: whoever wants the fingerprint waits for none."""

    def __init__(self, makers: Mapping[str, Callable[[], PictureProbe]]) -> None:
        self._makers = makers
        self._made: dict[str, PictureProbe] = {}

    def __getitem__(self, name: str) -> PictureProbe:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


@lru_cache(maxsize=1)
def _encoders() -> tuple[ClipEncoder, StoryRecogniser]:
    return load_vision("toy"), load_recogniser(_WEIGHTS)


def _fit(of: TrainingSet, features: Sequence[np.ndarray], backbone: str, seed: int) -> EmotionProbe:
    """A probe of the train split, scored on the test split where that has pictures.

    features: of both, [n, V] and [m, V].
    """
    train, test = ([sample.emotion for sample in of.samples(split)] for split in _SPLITS)
    held_out = (features[1], test) if test else None
    names = of.taxonomy.names
    return fit_probe(features[0], train, names, held_out=held_out, backbone=backbone, seed=seed)


def _small(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """At the size that the recogniser reads."""
    return [square(picture, PICTURE_SIZE) for picture in pictures]


def _embedding(recogniser: StoryRecogniser) -> EncodePictures:
    """Features for a probe, [n, FEATURES]."""
    return lambda pictures: recogniser.embed(_small(pictures))


def _pooled(recogniser: StoryRecogniser) -> EncodePictures:
    """The last maps, averaged over the picture: [n, 80]. They tell blur and noise from clean pictures, to
    which the features behind them were trained to be blind."""

    @torch.no_grad()
    def pooled(pictures: Sequence[Image.Image]) -> Features:
        maps = _maps(recogniser, picture_pixels(_small(pictures)) * 2 - 1)[-1]
        features: Features = maps.mean(dim=(2, 3)).numpy()
        return features

    return pooled


def _maps(recogniser: StoryRecogniser, pixels: Tensor) -> list[Tensor]:
    """The maps after each rectifier, of pixels in -1..1."""
    found = []
    for layer in recogniser.backbone:
        if isinstance(layer, nn.Flatten):
            break
        pixels = layer(pixels)
        if isinstance(layer, nn.ReLU):
            found.append(pixels)
    return found


def _embed(recogniser: StoryRecogniser, samples: Sequence[Sample]) -> np.ndarray:
    """[n, FEATURES], a batch at a time."""
    parts = [np.empty((0, FEATURES), dtype=np.float32)]
    for start in range(0, len(samples), _BATCH):
        parts.append(recogniser.embed([load_rgb(sample.image) for sample in samples[start : start + _BATCH]]))
    return np.concatenate(parts)


def _top(recogniser: StoryRecogniser, head: str) -> TopProbability:
    """The largest probability of one head."""

    @torch.no_grad()
    def top(pictures: Sequence[Image.Image]) -> np.ndarray:
        shares: np.ndarray = (
            recogniser(picture_pixels(_small(pictures)))[head].softmax(dim=1).amax(dim=1).numpy()
        )
        return shares

    return top


def _layer_distance(recogniser: StoryRecogniser) -> Callable[[Tensor, Tensor], Tensor]:
    """LPIPS without learned weights, on the maps after each of the recogniser's rectifiers."""

    def maps(pixels: Tensor) -> list[Tensor]:
        return [found / (found.norm(dim=1, keepdim=True) + 1e-10) for found in _maps(recogniser, pixels)]

    def compare(first: Tensor, second: Tensor) -> Tensor:
        pairs = zip(maps(first), maps(second), strict=True)
        return torch.stack([(a - b).square().sum(dim=1).mean(dim=(1, 2)) for a, b in pairs]).mean(dim=0)

    return compare


def _fingerprint(clip: ClipEncoder, train: SampleRows, names: Sequence[str], seed: int) -> str:
    """Of what decides the figures; of the probes' pictures and not of their weights, whose last bits depend
    on the number of threads."""
    rows = train.columns("sha256", "emotion")
    facts = {
        "version": _VERSION,
        "clip": clip.fingerprint,
        "recogniser": sha256_file(_WEIGHTS),
        "seed": seed,
        "names": list(names),
        "train": list(zip(rows["sha256"].to_pylist(), rows["emotion"].to_pylist(), strict=True)),
    }
    return hashlib.sha256(canonical_json(facts).encode("utf-8")).hexdigest()
