"""The way to the real table: what `compare --paper` would do on this machine, before anything of it is done.

Per stage hours and disk, and every file that is missing. Where a part of the work could be timed it was;
otherwise it is estimated, and the plan says which.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ...data.samples import SPLITS, TrainingSet
from ...methods import METHODS
from ...methods.dreambooth import CLASS_PICTURES
from ...methods.emogen import SPACE_SHARE
from ...train.config import TrainConfig
from ...train.disk import free_bytes
from ...train.precision import dtype_of
from ..weights import clip_spec
from .budget import Costs, How, work_costs
from .paper_files import NeededFile, base_is_here, needed_files, vision_is_here
from .paper_settings import PaperSettings, paper_settings
from .variants import Variant

EMOSET = {"train": 94_481, "val": 5_904, "test": 17_717}
"""EmoSet-118K's pictures in its splits of 80, 5 and 15%: taken where no set is named."""

_EMOTIONS = 8
_SINGLE, _HALF = 4, 2  # bytes
_PNG = 1.7  # bytes per pixel of a photograph
_ROW = 700  # bytes of a picture's rows in the tables of a set
_SEEN = 4 * (2048 + 768 + 256)  # bytes that the instruments leave of a picture
# What a fit leaves, checkpoints and all, at rank 4 on Stable Diffusion 1.5; methods without one are not here.
_FIT_BYTES = {"coemogen": 420e6, "dreambooth": 480e6, "emogen": 1300e6, "textual_inversion": 20e6}


@dataclass(frozen=True)
class Stage:
    """A part of the way. amount: what it does how often. seconds: None where nobody can know. size: bytes
    that it leaves. how: whether the time is "measured" or "estimated", "" where there is none.
    """

    name: str
    amount: str
    seconds: float | None
    size: float
    how: How | str


@dataclass(frozen=True)
class PaperPlan:
    """facts: (what, value) of the whole. stages: in their order. files: here and missing. free: bytes on the
    disk of the current folder.
    """

    facts: tuple[tuple[str, str], ...]
    costs: Costs
    stages: tuple[Stage, ...]
    files: tuple[NeededFile, ...]
    free: int

    @property
    def seconds(self) -> float:
        """Of all stages whose time is known."""
        return sum(stage.seconds or 0.0 for stage in self.stages)

    @property
    def size(self) -> float:
        """Bytes of all stages."""
        return sum(stage.size for stage in self.stages)

    @property
    def missing(self) -> tuple[NeededFile, ...]:
        """Files that are not here."""
        return tuple(file for file in self.files if not file.here)


def paper_plan(
    settings: Path | None = None,
    training_set: Path | None = None,
    base: str | None = None,
    vision: str | None = None,
    weights_dir: Path | None = None,
    device: str = "cpu",
) -> PaperPlan:
    """Plan the real table; reads no network, writes nothing.

    Arguments:
        settings: a TOML file; None: the package's, `configs/paper.toml`. training_set: a set that `prepare`
            made of EmoSet; None: its published sizes are taken. base, vision: in the place of the preset's.
        weights_dir: where the instruments' weights are. device: that would compute.

    Raises:
        UserError: what is named and is not there, or settings that cannot be understood.
    """
    table = paper_settings(settings)
    of = TrainingSet.open(training_set) if training_set is not None else None
    vision = vision if weights_dir is None else clip_spec(vision, weights_dir)
    config = table.fit_config(training_set or "SET", "OUT", base, vision)
    files = needed_files(config, of, table.second, weights_dir)
    dtype = dtype_of(config.precision)
    costs = work_costs(
        torch.device(device),
        dtype,
        config.resolution,
        table.drawn_together,
        config.base if base_is_here(config.base) else None,
        config.vision if vision_is_here(config.vision) else None,
    )
    counts = _counts(of)
    emotions = of.taxonomy.num_emotions if of is not None else _EMOTIONS
    work = _Work(table, config, counts, emotions, costs)
    stages = (*work.data(done=of is not None), *work.fits(), *work.pictures())
    facts = _facts(table, config, counts, emotions, of is not None, dtype)
    return PaperPlan(facts, costs, stages, files, free_bytes(Path()))


@dataclass(frozen=True)
class _Work:
    """Everything that there is to do, counted. counts: pictures of each split. emotions: how many."""

    settings: PaperSettings
    config: TrainConfig
    counts: Mapping[str, int]
    emotions: int
    costs: Costs

    def data(self, done: bool) -> Iterable[Stage]:
        """From the source to what training reads. done: the set is made already."""
        costs, every, train = self.costs, sum(self.counts.values()), self.counts["train"]
        views = train * (2 if self.config.flip else 1)
        if not done:
            seconds = costs.seconds(read=every) / costs.cores
            yield Stage("prepare", f"{every:,} pictures read", seconds, every * _ROW, "measured")
        yield Stage("caption", f"{train:,} sentences by a multimodal model", None, 0, "")
        latent = 2 * 4 * (self.config.resolution // 8) ** 2 * _HALF  # mean and deviation
        yield Stage(
            "cache and filter",
            f"{views:,} latents, {every:,} CLIP features",
            costs.seconds(encode=views, clip=every) + costs.seconds(read=train + every) / costs.cores,
            views * latent + every * 768 * _SINGLE,
            costs.how("encode", "clip"),
        )
        seconds = costs.seconds(look=every / 4, read=every)
        yield Stage(
            "emotion probes", f"made from the set: {every:,} pictures", seconds, 4e6, costs.how("look")
        )

    def fits(self) -> Iterable[Stage]:
        """Every row's fits, and before them those by which settings are chosen."""
        rows = [row for row in self.settings.variants if row.method in _FIT_BYTES]
        leaders = [row for row in self.settings.leaders if row.method in _FIT_BYTES]
        tried = [(row, len(METHODS[row.method].tried)) for row in leaders]
        trials = [self._fit(row, count) for row, count in tried]
        yield Stage(
            "fits, settings tried",
            f"{sum(count for _, count in tried)} x {self.settings.budget:,} samples",
            sum(stage.seconds or 0.0 for stage in trials),
            sum(stage.size for stage in trials),
            self.costs.how("step"),
        )
        seen: set[str] = set()
        for row in rows:
            fit = f"{row.method} {sorted(row.fit.items())} {row.captions}"
            if fit not in seen:  # rows that differ in drawing alone share theirs
                yield self._fit(row, len(self.settings.seeds))
            seen.add(fit)

    def pictures(self) -> Iterable[Stage]:
        """Drawing every row at every seed and scale, trials too, and looking at it."""
        settings, costs = self.settings, self.costs
        scales = len(settings.guidances)
        trials = sum(len(METHODS[row.method].tried) for row in settings.leaders)
        trials += sum(row.own_guidance for row in settings.variants)
        # Ablations have no curve: they are drawn at the whole method's scale alone.
        curves = sum(1 if row.kind == "ablation" else scales for row in settings.variants)
        sheets = trials * scales + curves * len(settings.seeds)
        drawn = sheets * settings.each * self.emotions
        pixels = self.config.resolution**2
        yield Stage(
            "drawing",
            f"{sheets} fits and scales x {settings.each * self.emotions:,} pictures",
            costs.seconds(denoise=drawn * 2 * settings.sampler_steps, decode=drawn),
            drawn * pixels * _PNG,
            costs.how("denoise", "decode"),
        )
        looked = drawn + self.counts["test"]
        yield Stage(
            "looking",
            f"{looked:,} pictures, {self.counts['test']:,} of them real",
            costs.seconds(clip=looked, look=looked, read=looked),
            looked * _SEEN,
            costs.how("clip", "look"),
        )

    def _fit(self, row: Variant, fits: int) -> Stage:
        samples = self.settings.budget * int(row.fit.get("times_steps", 1))
        seconds = self.costs.seconds(step=samples * (1.0 - SPACE_SHARE * (row.method == "emogen")))
        if row.method == "emogen":  # its space: ResNet-50, forward and backward, on decoded pictures
            seconds += self.costs.seconds(look=samples * SPACE_SHARE / 2, read=samples * SPACE_SHARE)
        if row.method == "dreambooth":
            passes = 2 * CLASS_PICTURES * self.config.preview_steps
            seconds += self.costs.seconds(denoise=passes)
        return Stage(
            f"fit: {row.title}",
            f"{fits} x {samples:,} samples",
            fits * seconds,
            fits * _FIT_BYTES[row.method],
            self.costs.how("step"),
        )


def _counts(of: TrainingSet | None) -> Mapping[str, int]:
    if of is None:
        return EMOSET
    return {split: len(of.samples(split)) for split in SPLITS}


def _facts(
    settings: PaperSettings,
    config: TrainConfig,
    counts: Mapping[str, int],
    emotions: int,
    real: bool,
    dtype: torch.dtype,
) -> tuple[tuple[str, str], ...]:
    splits = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    scales = ", ".join(f"{scale:g}" for scale in settings.guidances)
    return (
        ("set", f"{splits} pictures" + ("" if real else ", as EmoSet-118K is published")),
        ("base", f"{config.base} at {config.resolution} pixels, {str(dtype).removeprefix('torch.')}"),
        ("rows", ", ".join(settings.rows)),
        ("fits", f"{settings.budget:,} samples each, seeds {', '.join(map(str, settings.seeds))}"),
        (
            "pictures",
            f"{settings.each:,} of each of {emotions} emotions, at guidance {scales}, "
            f"{settings.sampler_steps} steps",
        ),
    )
