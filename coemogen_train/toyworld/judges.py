"""Who judges toy pictures: two emotion probes on different backbones, the story recogniser, and the real
pictures' features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..base.vision import ClipEncoder
from ..data.embeddings import EmbeddingCache
from ..data.images import load_rgb
from ..data.samples import Sample, TrainingSet
from ..evaluate import (
    EmotionProbe,
    Row,
    bootstrap_mean,
    correct,
    coverage,
    fit_probe,
    frechet_distance,
    pairwise_diversity,
    story_rate,
)
from .narratives import ALL_NARRATIVES, HARD_SETS, Story
from .recogniser import StoryRecogniser

NARRATIVE_SETS: dict[str, frozenset[Story]] = {
    emotion: frozenset(stories) for emotion, stories in ALL_NARRATIVES.items()
}


@dataclass(frozen=True)
class Verdict:
    """What was seen in a row's pictures: [n] each, in their order; `right` is the CLIP probe's, `second` the
    other's.
    """

    row: Row
    intended: tuple[str, ...]
    predicted: tuple[str, ...]
    right: np.ndarray
    second: float


class Judges:
    """Probes trained on the real training pictures, and the figures that they give, of the set's emotions."""

    def __init__(
        self,
        training_set: TrainingSet,
        cache: EmbeddingCache,
        clip: ClipEncoder,
        recogniser: StoryRecogniser,
        seed: int,
    ) -> None:
        self.clip, self.recogniser, self.seed = clip, recogniser, seed
        train, test = training_set.samples("train"), training_set.samples("test")
        names = training_set.taxonomy.names
        self.narratives = {name: NARRATIVE_SETS[name] for name in names}
        self.real_features = _cached(cache, test)
        self.test_pictures = [load_rgb(sample.image) for sample in test]
        self.test_labels = [sample.emotion for sample in test]
        train_labels = [sample.emotion for sample in train]
        self.probe: EmotionProbe = fit_probe(
            _cached(cache, train),
            train_labels,
            names,
            held_out=(self.real_features, self.test_labels),
            backbone="toy CLIP, image tower",
            seed=seed,
        )
        self.second: EmotionProbe = fit_probe(
            recogniser.embed([load_rgb(sample.image) for sample in train]),
            train_labels,
            names,
            held_out=(recogniser.embed(self.test_pictures), self.test_labels),
            backbone="story recogniser",
            seed=seed,
        )

    def judge(
        self,
        name: str,
        pictures: Sequence[Image.Image],
        intended: Sequence[str],
        kind: str,
        note: str,
        guidance: float | None = None,
    ) -> Verdict:
        """All figures of one row of the table; coverage is the mean over the emotions that were intended."""
        features = self.clip.encode_images(list(pictures)).numpy()
        predicted = self.probe.predict(features)
        right = correct(predicted, intended)
        interval = bootstrap_mean(right, intended, seed=self.seed)
        stories = self.recogniser.read_stories(pictures)
        narratives = {name: self.narratives[name] for name in dict.fromkeys(intended)}
        reached = coverage(stories, intended, narratives)
        row = Row(
            name=name,
            emo_a=interval.value,
            low=interval.low,
            high=interval.high,
            coverage=reached.mean,
            coverage_of=reached.mean_of,
            story=story_rate(stories, intended, narratives),
            frechet=frechet_distance(features, self.real_features) if len(features) > 1 else None,
            diversity=pairwise_diversity(features, intended),
            guidance=guidance,
            n=len(right),
            kind=kind,
            note=note,
        )
        second = correct(self.second.predict(self.recogniser.embed(pictures)), intended)
        return Verdict(row, tuple(intended), tuple(predicted), right, float(second.mean()))

    def hard_accuracy(self) -> float:
        """The CLIP probe's accuracy on real held-out pictures of stories that share both objects with a
        rival's.
        """
        hard = {story for pair in HARD_SETS for story in pair}
        stories = self.recogniser.read_stories(self.test_pictures)
        chosen = [i for i, story in enumerate(stories) if story in hard]
        right = correct(self.probe.predict(self.real_features), self.test_labels)
        return float(right[chosen].mean()) if chosen else float("nan")


def _cached(cache: EmbeddingCache, samples: Sequence[Sample]) -> np.ndarray:
    return np.stack([cache.image_embeds(sample.id).numpy() for sample in samples])
