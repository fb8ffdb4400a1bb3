"""What is drawn for an analysis, and what is seen in it; nothing that was seen is drawn again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ...base.generate import emotion_conditions, encode_prompts
from ...base.model import BaseModel
from ...base.sampling import SamplingSettings, generate_images, noise_seeds
from ...emotions import Taxonomy
from ...files import atomic_path, canonical_json
from ..instruments import Instruments, PictureProbe, PictureTextEncoder

if TYPE_CHECKING:
    from ...adapter.file import Adapter

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
UNKNOWN = -1
"""What a probe saw that has more emotions than the adapter."""


@dataclass(frozen=True)
class Order:
    """n pictures of one prompt, in which each carrier of the emotion may have one of its own.

    words: [n] emotions told to the mapper, and so of the pseudo-words. hilora: [n] of the routing.
    source: [n] whose Gaussians give v. prompt: "{emotion}" is the place of the pseudo-words.
    intensity: t of the pseudo-words. strength: factor on HiLoRA. Picture i hangs on seed + i.
    """

    words: tuple[str, ...]
    hilora: tuple[str, ...]
    source: tuple[str, ...]
    seed: int
    settings: SamplingSettings
    prompt: str = "{emotion}"
    intensity: float = 1.0
    strength: float = 1.0

    @classmethod
    def of(cls, emotions: Sequence[str], seed: int, settings: SamplingSettings) -> Order:
        """All carriers of a picture have the same emotion, as they are meant to."""
        meant = tuple(emotions)
        return cls(meant, meant, meant, seed, settings)


@dataclass(frozen=True)
class BareOrder:
    """n pictures of the bare base, a prompt each; picture i hangs on seed + i."""

    prompts: tuple[str, ...]
    seed: int
    settings: SamplingSettings


class Painter(Protocol):
    """An adapter on its base, as analyses need it."""

    @property
    def taxonomy(self) -> Taxonomy:
        """The adapter's emotions."""

    def embeds(self, emotions: Sequence[str], seed: int) -> Tensor:
        """Draw v [n, V] of each emotion from the adapter's Gaussians."""

    def draw(self, order: Order | BareOrder) -> list[Image.Image]:
        """Draw what is ordered."""


@dataclass(frozen=True, eq=False)
class AdapterPainter:
    """The adapter on a base that it fits."""

    base: BaseModel
    adapter: Adapter

    @property
    def taxonomy(self) -> Taxonomy:
        """The adapter's emotions."""
        return self.adapter.info.taxonomy

    def embeds(self, emotions: Sequence[str], seed: int) -> Tensor:
        """Draw v [n, V] of each emotion from the adapter's Gaussians."""
        return self.adapter.gaussians.sample(self._rows(emotions), seed)

    def draw(self, order: Order | BareOrder) -> list[Image.Image]:
        """Draw what is ordered.

        Raises:
            UserError: the adapter does not fit the base; see also `sample_latents`.
        """
        if isinstance(order, BareOrder):
            embeds, negative = encode_prompts(self.base, order.prompts), encode_prompts(self.base, [""])
            seeds = noise_seeds(order.seed, len(order.prompts))
            return generate_images(self.base, embeds, negative, seeds, order.settings)
        conditions = emotion_conditions(
            self.base,
            self.adapter,
            self._rows(order.words),
            self.embeds(order.source, order.seed),
            order.prompt,
            order.intensity,
        )
        hilora = self.adapter.hilora.to(self.base.device)
        gates = hilora.gate(self._rows(order.hilora), order.strength, order.strength)
        with hilora.attach(self.base.unet) as attached:
            return generate_images(
                self.base,
                *conditions,
                noise_seeds(order.seed, len(order.words)),
                order.settings,
                gates if order.strength else None,  # none at all is the bare U-Net to the bit
                attached,
            )

    def _rows(self, emotions: Sequence[str]) -> Tensor:
        return torch.eye(self.taxonomy.num_emotions)[[self.taxonomy.index(name) for name in emotions]]


@dataclass(frozen=True, eq=False)
class Readings:
    """What the instruments see in n pictures.

    seen: by probe, [n] the likeliest emotion as a number of the taxonomy, or `UNKNOWN`.
    probabilities: by probe, [n, E] in the taxonomy's order.
    luma: [n], a picture's mean brightness, 0 to 1. features: [n, V], CLIP's, unnormalised.
    """

    seen: dict[str, IntArray]
    probabilities: dict[str, FloatArray]
    luma: FloatArray
    features: NDArray[np.float32]

    def save(self, path: Path) -> None:
        """Write them as .npz, whole or not at all."""
        told: dict[str, Any] = {f"seen.{name}": array for name, array in self.seen.items()}
        told |= {f"probabilities.{name}": array for name, array in self.probabilities.items()}
        with atomic_path(path) as part, part.open("wb") as stream:
            np.savez_compressed(stream, luma=self.luma, features=self.features, **told)

    @classmethod
    def load(cls, path: Path) -> Readings:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}

        def under(kind: str) -> dict[str, NDArray]:
            return {
                name.split(".", 1)[1]: array for name, array in arrays.items() if name.startswith(kind + ".")
            }

        return cls(under("seen"), under("probabilities"), arrays["luma"], arrays["features"])


@dataclass(frozen=True, eq=False)
class Eyes:
    """Those of the `Instruments` that an analysis needs: CLIP, and the probes by name, the paper's first."""

    clip: PictureTextEncoder
    probes: Mapping[str, PictureProbe]


@dataclass(eq=False)
class Observer:
    """Draws orders and reads the pictures; with a folder, what was read once is read from there.

    identity: what the pictures hang on beside the order: adapter, base, instruments.
    observed: called after each order, drawn or kept.
    """

    painter: Painter
    instruments: Eyes | Instruments
    folder: Path | None = None
    identity: str = ""
    observed: Callable[[], None] = lambda: None

    @property
    def taxonomy(self) -> Taxonomy:
        """The adapter's emotions."""
        return self.painter.taxonomy

    @property
    def probes(self) -> tuple[str, ...]:
        """The probes that look, the paper's first."""
        return tuple(self.instruments.probes)

    def observe(self, order: Order | BareOrder) -> Readings:
        """What is seen in the ordered pictures."""
        readings = self._kept_or_drawn(order)
        self.observed()
        return readings

    def _kept_or_drawn(self, order: Order | BareOrder) -> Readings:
        file = None if self.folder is None else self.folder / f"{self._key(order)}.npz"
        if file is not None and file.exists():
            return Readings.load(file)
        readings = self.read(self.painter.draw(order))
        if file is not None:
            readings.save(file)
        return readings

    def read(self, pictures: Sequence[Image.Image]) -> Readings:
        """What the instruments see in pictures."""
        names = self.taxonomy.names
        looked = {name: _look(probe, pictures, names) for name, probe in self.instruments.probes.items()}
        luma = [np.asarray(picture.convert("L"), dtype=np.float64).mean() / 255 for picture in pictures]
        return Readings(
            {name: seen for name, (seen, _) in looked.items()},
            {name: probabilities for name, (_, probabilities) in looked.items()},
            np.array(luma),
            self.instruments.clip.encode_images(list(pictures)).numpy(),
        )

    def _key(self, order: Order | BareOrder) -> str:
        asked = asdict(order)
        asked["settings"].pop("batch_size")  # no picture hangs on it
        told = {"kind": type(order).__name__, "identity": self.identity, "order": asked}
        return hashlib.sha256(canonical_json(told).encode("utf-8")).hexdigest()[:32]


def _look(
    looking: PictureProbe, pictures: Sequence[Image.Image], names: Sequence[str]
) -> tuple[IntArray, FloatArray]:
    features, probe = looking.encode(pictures), looking.probe
    place_of = {column: place for place, column in enumerate(probe.columns(names))}
    seen = [place_of.get(int(column), UNKNOWN) for column in probe.logits(features).argmax(axis=1)]
    return np.array(seen, dtype=np.int64), probe.probabilities(features, names)


def meant_emotions(taxonomy: Taxonomy, each: int) -> tuple[str, ...]:
    """Every emotion `each` times, side by side."""
    return tuple(name for name in taxonomy.names for _ in range(each))


def right_emotion(seen: IntArray, meant: Sequence[str], taxonomy: Taxonomy) -> FloatArray:
    """1 where the probe saw what was meant, else 0: [n]."""
    return (seen == np.array([taxonomy.index(name) for name in meant])).astype(np.float64)


def right_polarity(seen: IntArray, meant: Sequence[str], taxonomy: Taxonomy) -> FloatArray:
    """1 where what the probe saw is of the polarity of what was meant, else 0: [n]."""
    polarity = np.array([*taxonomy.polarity_of, UNKNOWN])  # the last is that of UNKNOWN, -1
    return (polarity[seen] == polarity[[taxonomy.index(name) for name in meant]]).astype(np.float64)
