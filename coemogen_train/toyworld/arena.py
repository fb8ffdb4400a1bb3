"""The toy world as the arena of a comparison: a set, a base and instruments of its own for every seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from ..base.load import load_base
from ..base.sampling import SamplingSettings
from ..base.vision import load_vision
from ..data import TrainingSet, build_cache, filter_set, prepare_toy
from ..data.caption_variants import variant_set
from ..evaluate.comparison.variants import Captions
from ..evaluate.instruments import Instruments
from ..evaluate.pictures import LabelledPictures
from ..train.config import TrainConfig, load_config
from .dataset import MISTAKEN_SHARE, toy_taxonomy
from .instruments import toy_instruments

_MADE = "made.txt"
_GENERATOR = 1  # raised whenever the same seed would draw another world


@dataclass(frozen=True)
class ToySize:
    """Pictures of each emotion in the set's splits and in a row of the table; training steps, None: the
    preset's; steps of the sampler; scales of guidance.
    """

    train: int = 200
    val: int = 12
    test: int = 48
    each: int = 24
    steps: int | None = None
    sampler_steps: int = 10
    guidances: tuple[float, ...] = (1.5, 3.0, 5.0, 7.5)


FULL = ToySize()
QUICK = ToySize(train=24, val=2, test=12, each=2, steps=6, sampler_steps=4, guidances=(1.5, 3.0))


class ToyArena:
    """A world anew for every seed: other pictures, other captions, other probes."""

    def __init__(self, folder: Path, size: ToySize = FULL) -> None:
        self.folder, self.size = folder, size
        self.world = (
            "The toy world: 64 x 64 scenes, eight emotions of six narratives each, and a base model of 3.4 "
            "million parameters. Every seed draws its own pictures."
        )
        self.emotions: tuple[str, ...] = toy_taxonomy().names
        self.guidances = size.guidances
        self.each = size.each
        self.sampling = SamplingSettings(steps=size.sampler_steps, batch_size=48)
        self.device, self.real_weights, self.one_set = "cpu", False, False
        self.notes: tuple[str, ...] = (
            f"{MISTAKEN_SHARE:.0%} of the toy world's training captions tell a story that is not there: so "
            "“0% corrupted” has these, and it is they that the filter is for.",
        )
        self.training_set = lru_cache(maxsize=8)(self._training_set)
        self.instruments = lru_cache(maxsize=2)(self._instruments)

    def config(self, seed: int, captions: Captions) -> TrainConfig:
        """The toy preset on the seed's set."""
        settings: dict[str, Any] = {
            "set": str(self.training_set(seed, captions).root),
            "out": str(self.folder / "out"),  # the engine's to say
            "seed": seed,
            "preview_every": 0,
            "validate_every": 0,
        }
        if self.size.steps is not None:
            settings["steps"] = self.size.steps
        return load_config("toy", [f"{key}={json.dumps(value)}" for key, value in settings.items()])

    def real(self, seed: int) -> LabelledPictures:
        """The seed's test split."""
        return LabelledPictures.from_samples(self.training_set(seed, Captions()).samples("test"))

    def _instruments(self, seed: int) -> Instruments:
        return toy_instruments(self.training_set(seed, Captions()), seed=seed)

    def _training_set(self, seed: int, captions: Captions) -> TrainingSet:
        plain = self._plain(seed)
        if captions == Captions():
            return plain
        form, corrupted, dropped = captions.form, captions.corrupted, captions.dropped
        name = f"{plain.root.name}-{form}-{corrupted * 100:.0f}-{dropped * 100:.0f}"

        def make(folder: Path) -> None:
            variant_set(plain, folder, form, corrupted, dropped, load_vision("toy"), seed)

        return self._made(name, make)

    def _plain(self, seed: int) -> TrainingSet:
        """The set as it is drawn, filtered, its latents and features cached."""

        def make(folder: Path) -> None:
            size, clip = self.size, load_vision("toy")
            splits = {f"{name}_per_emotion": getattr(size, name) for name in ("train", "val", "test")}
            prepare_toy(folder, seed, **splits)
            filter_set(TrainingSet.open(folder), 0.2, clip)
            of = TrainingSet.open(folder)
            build_cache(of, load_base("toy"), clip, 64, flip=False)

        size = self.size
        return self._made(f"world{_GENERATOR}-{size.train}-{size.val}-{size.test}-seed{seed}", make)

    def _made(self, name: str, make: Any) -> TrainingSet:
        """The set of that name, made by whoever comes first."""
        folder = self.folder / "sets" / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        mark = folder / _MADE
        with FileLock(folder.parent / f".{name}.lock"):
            if not mark.exists():
                make(folder)
                mark.write_text("whole\n", encoding="utf-8")
        return TrainingSet.open(folder)


def toy_arena(folder: Path, quick: bool = False, **changes: Any) -> ToyArena:
    """The arena under `folder`; sets of other sizes have other names.

    changes: of the size, such as `each`; quick: the smallest that runs.
    """
    told: Mapping[str, Any] = {key: value for key, value in changes.items() if value is not None}
    return ToyArena(folder, replace(QUICK if quick else FULL, **told))
