"""What pictures are measured with: encoders, classifiers and probes, whoever brings them.

The protocol of the metrics knows these forms alone, so it is the same arithmetic on Inception, AlexNet and
CLIP ViT-L/14, and on the toy world's small encoders.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .probes import EmotionProbe

Features = NDArray[np.float32]

EncodePictures = Callable[[Sequence[Image.Image]], Features]
"""n pictures, RGB, of any size -> [n, D] finite features."""

PictureDistance = Callable[[Sequence[Image.Image], Sequence[Image.Image]], Features]
"""n pictures and n others -> [n] distances of the pairs, 0 for equal ones."""

TopProbability = Callable[[Sequence[Image.Image]], Features]
"""n pictures -> [n], the classifier's largest probability for each, 0..1."""


class PictureTextEncoder(Protocol):
    """CLIP, as the metrics need it (`base.vision.ClipEncoder` has it)."""

    @property
    def name(self) -> str:
        """What the user called it."""

    @property
    def fingerprint(self) -> str:
        """Differs whenever the embedding of a picture would."""

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """n pictures -> [n, V] float32, unnormalised."""

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """n texts -> [n, V] float32, unnormalised."""


@dataclass(frozen=True, eq=False)
class PictureProbe:
    """An emotion probe with the encoder that makes its features."""

    probe: EmotionProbe
    encode: EncodePictures


@dataclass(frozen=True, eq=False)
class StoryReader:
    """Reads which narrative a picture tells, where a world has narratives of its own.

    read: n pictures -> [n] ids, or None. narratives: the ids of every emotion's narratives.
    """

    read: Callable[[Sequence[Image.Image]], Sequence[Hashable | None]]
    narratives: Mapping[str, Collection[Hashable]]


@dataclass(frozen=True, eq=False)
class Instruments:
    """All that pictures are measured with.

    inception: features of FID, KID, precision, recall and coverage (Inception's pool3, 2048-d, in the paper).
    perceptual: LPIPS. clip: Sem-D and the alignment with a text. classifiers: of Sem-C, by name (ImageNet and
    Places365 in the paper). probes: of Emo-A, by name: "clip", the paper's, and "second", on another
    backbone; either may be absent. stories: None outside worlds that have them.
    fingerprint: differs whenever a figure would.
    """

    inception: EncodePictures
    perceptual: PictureDistance
    clip: PictureTextEncoder
    classifiers: Mapping[str, TopProbability]
    probes: Mapping[str, PictureProbe]
    fingerprint: str
    stories: StoryReader | None = None
