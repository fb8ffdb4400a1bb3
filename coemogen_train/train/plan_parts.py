"""What a plan says: of the base, the pictures, the batches, the rate, memory, disk and time."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .config import TrainConfig
from .disk import DiskPart
from .items import emotion_counts
from .memory import MemoryEstimate
from .optimiser import learning_rate_at
from .preflight import has_emotion
from .speed import readable_duration

if TYPE_CHECKING:
    from .start import Start

_RATE_POINTS = 5


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


def plan_base(config: TrainConfig, start: Start) -> BasePlan:
    """Say what the base is, and who said so."""
    shape, declared = start.shape, start.shape.declared

    def said_by(setting: object, said: object) -> str:
        if setting != "auto":
            return "the settings"
        if said is not None:
            return "its files"
        return "assumed" if start.source is None else "the adapter to go on from"

    return BasePlan(
        name=shape.name,
        architecture=shape.architecture,
        prediction_type=shape.prediction_type,
        prediction_type_from=said_by(config.prediction_type, declared.prediction_type),
        clip_skip=shape.clip_skip,
        clip_skip_from=said_by(config.clip_skip, declared.clip_skip),
        zero_terminal_snr=shape.zero_terminal_snr,
        assumed=shape.assumed,
    )


def plan_batch(config: TrainConfig, pictures: int, processes: int) -> BatchPlan:
    """Multiply out what an effective batch is, and what all steps see."""
    effective = config.batch_size * config.accumulate * processes
    seen = config.steps * effective
    return BatchPlan(
        processes, config.batch_size, config.accumulate, effective, config.steps, seen, seen / pictures
    )


def plan_emotions(start: Start, batch: BatchPlan) -> tuple[EmotionPlan, ...]:
    """Count each emotion's pictures, and how often they are drawn."""
    trained = start.trained
    train = start.training_set.samples("train")
    kept, held_out = emotion_counts(start.samples), emotion_counts(start.held_out)
    dropped = emotion_counts(train) - emotion_counts(train.where(kept_only=True))
    most, each = max(kept.values()), batch.pictures_seen / trained.num_emotions
    return tuple(
        EmotionPlan(
            name=emotion.name,
            polarity=emotion.polarity,
            kept=kept[emotion.name],
            dropped=dropped[emotion.name],
            validation=held_out[emotion.name],
            oversampling=most / kept[emotion.name],
            epochs=each / kept[emotion.name],
        )
        for emotion in trained.emotions
    )


def plan_rate(config: TrainConfig) -> RatePlan:
    """Say how the learning rate moves."""
    last, warm = config.steps - 1, min(config.warmup_steps, config.steps - 1)
    text = f"{config.learning_rate:g}"
    if config.warmup_steps:
        text = f"rises to {text} over {config.warmup_steps} steps"
    then = "falls along a cosine to nearly 0" if config.schedule == "cosine" else "stays"
    steps = {
        0,
        warm,
        *(round(warm + (last - warm) * part / _RATE_POINTS) for part in range(_RATE_POINTS + 1)),
    }
    points = tuple(
        (
            step,
            learning_rate_at(step, config.learning_rate, config.warmup_steps, config.schedule, config.steps),
        )
        for step in sorted(steps)
    )
    return RatePlan(f"{text}, then {then}" if config.warmup_steps else f"{text}, {then}", points)


def plan_init(config: TrainConfig, start: Start) -> InitPlan | None:
    """Say what is carried over from the adapter that is gone on from; None where there is none."""
    if start.source is None:
        return None
    known, names = start.source.info.taxonomy, start.taxonomy.names
    kept = {known.names[known.index(name)] for name in names if has_emotion(known, name)}
    return InitPlan(
        adapter=str(config.init),
        mode=config.init_mode,
        continued=tuple(name for name in names if has_emotion(known, name)),
        new=tuple(name for name in names if not has_emotion(known, name)),
        left_out=tuple(name for name in known.names if name not in kept),
    )
