"""What a plan says: of the base, the pictures, the batches, the rate, memory, disk and time."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from .disk import DiskPart
from .memory import MemoryEstimate
from .speed import readable_duration


@dataclass(frozen=True)
class BasePlan:
    """The base model; *_from says who said so: the settings, its files, the adapter, or nobody (assumed)."""

    name: str
    architecture: str
    prediction_type: str
    prediction_type_from: str
    clip_skip: int
    clip_skip_from: str
    zero_terminal_snr: bool
    assumed: str | None


@dataclass(frozen=True)
class EmotionPlan:
    """An emotion's pictures: kept, dropped by the filter, held out for validation; how often they are seen.

    oversampling: how much oftener a picture is drawn than one of the largest emotion.
    """

    name: str
    polarity: str
    kept: int
    dropped: int
    validation: int
    oversampling: float
    epochs: float


@dataclass(frozen=True)
class BatchPlan:
    """What makes an effective batch, and what all steps together see."""

    processes: int
    batch_size: int
    accumulate: int
    effective_batch: int
    steps: int
    pictures_seen: int
    epochs: float


@dataclass(frozen=True)
class RatePlan:
    """The learning rate: in words, and as (optimiser step, rate) at some steps; the first step is 0."""

    text: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes: `needed` in training, `available` (known from `available_from`), and estimates both ways.

    estimate, checkpointed_estimate, caching: None where they could not be made or were not asked for.
    """

    checkpointing: bool
    reason: str
    available: int
    available_from: str
    needed: int | None
    caching: int | None
    estimate: MemoryEstimate | None
    checkpointed_estimate: MemoryEstimate | None


@dataclass(frozen=True)
class DiskPlan:
    """Bytes that the run will write, and what is free where."""

    parts: tuple[DiskPart, ...]
    free_for_cache: int
    free_for_run: int


@dataclass(frozen=True)
class TimePlan:
    """Seconds, estimated; `device` is what computes."""

    device: str
    step: float
    training: float
    caching: float
    validation: float
    previews: float

    @property
    def total(self) -> float:
        return self.training + self.caching + self.validation + self.previews


@dataclass(frozen=True)
class InitPlan:
    """What is gone on from: emotions that go on, that are new, and that the new adapter will not have."""

    adapter: str
    mode: str
    continued: tuple[str, ...]
    new: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What a run will do and need. Licence and origin end in the adapter; "" where nobody said."""

    set: str
    out: str
    base: BasePlan
    emotions: tuple[EmotionPlan, ...]
    batch: BatchPlan
    rate: RatePlan
    precision: str
    memory: MemoryPlan
    disk: DiskPlan
    time: TimePlan | None
    licence: str
    licence_from: str
    origin: str
    origin_from: str
    init: InitPlan | None
    warnings: tuple[str, ...]

    @property
    def checkpointing(self) -> bool:
        """Whether the U-Net's blocks are computed again in the backward pass."""
        return self.memory.checkpointing

    def log(self, logger: logging.Logger) -> None:
        """Tell the plan in a few lines, and its warnings."""
        batch, kept = self.batch, sum(emotion.kept for emotion in self.emotions)
        logger.info(
            "%d pictures of %d emotions; %d steps of %d: %.2g epochs",
            *(kept, len(self.emotions), batch.steps, batch.effective_batch, batch.epochs),
        )
        logger.info("learning rate: %s; %s", self.rate.text, self.precision)
        state = "on" if self.checkpointing else "off"
        logger.info("gradient checkpointing is %s: %s", state, self.memory.reason)
        if self.time is not None:
            logger.info("about %s on %s", readable_duration(self.time.total), self.time.device)
        for warning in self.warnings:
            logger.warning(warning)
