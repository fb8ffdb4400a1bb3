"""A probe that labels pictures: what `prepare` asks where a picture comes without an emotion.

The paper's EmoArt was made so: an emotion classifier's answer counts where it is surer than 0.75.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image
from torch import Tensor

from ..errors import DataError
from ..files import canonical_json
from .probe_file import load_probe, probe_fingerprint
from .probes import EmotionProbe

FLOOR = 0.75


class ImageEyes(Protocol):
    """What labelling needs of CLIP (`base.ClipEncoder` has it)."""

    @property
    def name(self) -> str:
        """What the user called it."""

    @property
    def fingerprint(self) -> str:
        """Differs whenever the embedding of a picture would."""

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """n pictures -> [n, V] float32, unnormalised."""


class ProbeLabeller:
    """Names the emotion of pictures and how sure it is; what lies below `floor` should not be believed.

    Attributes:
        floor: the least confidence that makes an answer a label, 0..1.
        names: [E], the emotions that it can name.
        fingerprint: of probe, encoder and floor: equal ones label equal pictures alike.
    """

    def __init__(self, probe: EmotionProbe, clip: ImageEyes, floor: float = FLOOR):
        """Raises: DataError for a floor outside 0..1, or features that the probe was not trained on."""
        if not 0 <= floor <= 1:
            raise DataError(
                f"a confidence of {floor} does not exist: choose one from 0 to 1, such as {FLOOR}."
            )
        probe.require_encoder(clip.fingerprint, clip.name)
        self._probe, self._clip = probe, clip
        self.floor = floor
        self.names = probe.classes
        facts = {"probe": probe_fingerprint(probe), "encoder": clip.fingerprint, "floor": floor}
        self.fingerprint = hashlib.sha256(canonical_json(facts).encode("utf-8")).hexdigest()

    @classmethod
    def open(cls, path: Path, clip: ImageEyes, floor: float = FLOOR) -> ProbeLabeller:
        """With the probe in a file. Raises: DataError, also for a file that is no probe."""
        return cls(load_probe(path), clip, floor)

    def label(self, images: Sequence[Image.Image]) -> list[tuple[str, float]]:
        """Name each picture's likeliest emotion, with its probability.

        Args:
            images: RGB, upright. Their embeddings depend in the last bits on who else is in the call: whoever
                needs equal answers at the very floor asks in equal groups.

        Raises:
            DataError: the encoder gives something else than finite numbers.
        """
        if not images:
            return []
        features = self._clip.encode_images(images).double().numpy()
        if not np.isfinite(features).all():
            raise DataError(
                f"{self._clip.name} gives features that are not finite numbers: load it in float32."
            )
        shares = self._probe.probabilities(features)
        likeliest = shares.argmax(axis=1)
        return [(self.names[best], float(row[best])) for row, best in zip(shares, likeliest, strict=True)]
