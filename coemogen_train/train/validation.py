"""The validation loss: held-out pictures under the same noise every time, per emotion.

Nothing here is drawn from the run's random state, and the noise hangs on picture and timestep alone: the
figures of two steps, two settings or two seeds differ by what was learned, not by luck.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..files import append_text, atomic_write_text, canonical_json
from .items import TrainingItem, TrainingItems

if TYPE_CHECKING:
    from ..data.embeddings import EmbeddingCache
    from ..data.samples import Sample
    from ..emotions import Taxonomy
    from .setup import Run

logger = logging.getLogger(__name__)

# Middles of equal parts of the schedule; one more changes the mean by less than it costs.
TIMESTEPS = 4
VALIDATION_FILE = "validation.jsonl"


@dataclass(frozen=True)
class EmotionLoss:
    """Means over an emotion's held-out pictures and all timesteps.

    None: not finite; for `semantic` also where pictures have no captions to compare with.
    """

    ldm: float | None
    semantic: float | None


@dataclass(frozen=True)
class ValidationRecord:
    """One line of `validation.jsonl`, after `step` steps; ldm and semantic are means over the emotions."""

    step: int
    ldm: float | None
    semantic: float | None
    emotions: dict[str, EmotionLoss]

    def values(self) -> dict[str, float | None]:
        """Give the figures by the names under which trackers show them."""
        named: dict[str, float | None] = {"validation/ldm": self.ldm, "validation/semantic": self.semantic}
        for name, loss in self.emotions.items():
            named |= {f"validation/{name}/ldm": loss.ldm, f"validation/{name}/semantic": loss.semantic}
        return named


@dataclass(frozen=True)
class HeldOut:
    """The held-out pictures of a run: latents [n, C, h, w] and image_embeds [n, V], float32, on the CPU."""

    items: tuple[TrainingItem, ...]
    latents: Tensor
    image_embeds: Tensor

    @classmethod
    def of(cls, samples: Sequence[Sample], taxonomy: Taxonomy, cache: EmbeddingCache) -> HeldOut | None:
        """What the cache holds of these pictures; None where there are none."""
        if not samples:
            return None
        return cls(
            tuple(TrainingItems(samples, taxonomy)),
            torch.stack([cache.held_out_latents(sample.id) for sample in samples]),
            torch.stack([cache.image_embeds(sample.id) for sample in samples]).float(),
        )


class Validation:
    """Measures and records; several processes share the pictures."""

    def __init__(self, run: Run, out: Path | None) -> None:
        """out: the run's folder, for `validation.jsonl`; None on processes that do not write."""
        self._run, self._file = run, out / VALIDATION_FILE if out else None
        self.records = read_validation(self._file) if self._file else []

    @property
    def steps(self) -> set[int]:
        """After which steps it was measured."""
        return {record.step for record in self.records}

    def measure(self, step: int) -> ValidationRecord | None:
        """Give the losses of the weights, averaged where these are kept; None where nothing is held out."""
        run, held_out = self._run, self._run.held_out
        if held_out is None:
            return None
        with torch.no_grad(), run.optimiser.averaged():
            sums = self._sums(held_out)
        run.objective.attached.route(None)
        sums = run.peers.sum(sums)
        ldm, semantic, count = sums.double().cpu().unbind(1)
        captioned = all(item.caption for item in held_out.items)
        emotions = {
            name: EmotionLoss(
                _finite(ldm[number] / count[number]),
                _finite(semantic[number] / count[number]) if captioned else None,
            )
            for number, name in enumerate(run.taxonomy.names)
            if count[number]
        }
        if strange := [name for name, loss in emotions.items() if loss.ldm is None]:
            logger.warning("the validation loss after step %d is not finite: %s", step, ", ".join(strange))
        record = ValidationRecord(
            step,
            _mean(loss.ldm for loss in emotions.values()),
            _mean(loss.semantic for loss in emotions.values()),
            emotions,
        )
        self.records.append(record)
        if self._file is not None:
            append_text(self._file, canonical_json(asdict(record)) + "\n")
        return record

    def _sums(self, held_out: HeldOut) -> Tensor:
        """Give [E, 3], sums of L_LDM and L_SEM and counts, over this process's share of the pictures."""
        run = self._run
        sums = torch.zeros(run.taxonomy.num_emotions, 3, device=run.device)
        timesteps = _timesteps(run.batches.draws.num_timesteps)
        pairs = [(i, t) for i in range(len(held_out.items)) for t in timesteps]
        captioned = all(item.caption for item in held_out.items)
        mine = pairs[run.accelerator.process_index :: run.accelerator.num_processes]
        for start in range(0, len(mine), run.config.batch_size):
            chosen = mine[start : start + run.config.batch_size]
            rows = [i for i, _ in chosen]
            batch = run.batches.held_out(
                [held_out.items[i] for i in rows],
                held_out.latents[rows],
                held_out.image_embeds[rows],
                torch.tensor([t for _, t in chosen]),
            ).to(run.device)
            with run.autocast():
                ldm, semantic = run.objective.evaluate(batch, captioned)
            losses = torch.stack([ldm, semantic, torch.ones_like(ldm)], dim=1)
            # Chosen, not multiplied by 0: what is not finite would spread to every emotion.
            own = batch.emotion.T[:, :, None] > 0  # [E, B, 1]
            sums += torch.where(own, losses, 0.0).sum(dim=1)
        return sums


def read_validation(file: Path) -> list[ValidationRecord]:
    """Read `validation.jsonl`; a last line that a killed process left unfinished is passed over."""
    records = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        try:
            plain = json.loads(line)
            emotions = {name: EmotionLoss(**loss) for name, loss in plain.pop("emotions").items()}
            records.append(ValidationRecord(**plain, emotions=emotions))
        except (ValueError, TypeError, KeyError, AttributeError):
            break
    return records


def cut_validation(file: Path, step: int) -> None:
    """Keep the records up to `step`: those after it are about to be measured again."""
    kept = [record for record in read_validation(file) if record.step <= step]
    if kept or file.exists():
        atomic_write_text(file, "".join(canonical_json(asdict(record)) + "\n" for record in kept))


def _finite(value: Tensor) -> float | None:
    return float(value) if math.isfinite(value) else None


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean of those that are there."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _timesteps(num_timesteps: int) -> Sequence[int]:
    return [(2 * part + 1) * num_timesteps // (2 * TIMESTEPS) for part in range(TIMESTEPS)]
