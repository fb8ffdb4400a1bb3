"""What a comparison is held in: the data, the base, the budget and the instruments that all rows share.

The engine knows an arena by this form alone. The toy world is one, a prepared set with real weights another.
"""

from __future__ import annotations

from typing import Protocol

from ...base.sampling import SamplingSettings
from ...data.samples import TrainingSet
from ...train.config import TrainConfig
from ..instruments import Instruments
from ..pictures import LabelledPictures
from .variants import Captions

HELD_IN = 1000
"""The seed on which settings and guidance are chosen; no table has it."""


class Arena(Protocol):
    """The grounds of a comparison.

    world: what the pictures are, a sentence. emotions: in their order. guidances: the scales that every row
    is drawn at. each: pictures of each emotion, row, scale and seed. sampling: all but guidance and branches.
    device: on which methods are fitted and pictures are drawn, in the precision of the fits. real_weights:
    whether the base has Stable Diffusion 1.5's architecture; whether its weights are the published ones
    nobody can know. one_set: whether all seeds share their pictures and probes. notes: sentences that readers
    need.
    """

    world: str
    emotions: tuple[str, ...]
    guidances: tuple[float, ...]
    each: int
    sampling: SamplingSettings
    device: str
    real_weights: bool
    one_set: bool
    notes: tuple[str, ...]

    def training_set(self, seed: int, captions: Captions) -> TrainingSet:
        """The set that a fit of `seed` reads, filtered, with its captions in the form asked for."""

    def config(self, seed: int, captions: Captions) -> TrainConfig:
        """The settings that all fits of `seed` share: base, set, budget. `out` is the engine's to say."""

    def real(self, seed: int) -> LabelledPictures:
        """Real held-out pictures."""

    def instruments(self, seed: int) -> Instruments:
        """What pictures of `seed` are measured with. Those of `HELD_IN` choose settings and guidance, and
        share no probe with the others."""
