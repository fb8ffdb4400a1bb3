"""What happened at each step: read from the device every few steps, kept in `history.jsonl`."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..errors import UserError
from ..files import append_text, atomic_write_text, canonical_json

logger = logging.getLogger(__name__)


class TrainingDiverged(UserError):
    """Too many steps in a row had a loss or a gradient that is not finite."""


@dataclass(frozen=True)
class StepReading:
    """One optimiser step, still on the device: nothing here has been waited for.

    step: number of the step, the first is 1. learning_rate: of this step.
    values: [4] float32: ldm, semantic (means over the effective batch), gradient norm before clipping, loss
        scale.
    skipped: scalar bool, the update was withheld. bad: scalar bool, and not only for the sake of the loss
        scale.
    bad_samples: [effective batch], non-zero where a sample's own loss was not finite.
    """

    step: int
    learning_rate: float
    values: Tensor
    skipped: Tensor
    bad: Tensor
    bad_samples: Tensor


@dataclass(frozen=True)
class StepRecord:
    """One line of `history.jsonl`; None stands for a number that was not finite."""

    step: int
    ldm: float | None
    semantic: float | None
    grad_norm: float | None
    learning_rate: float
    skipped: bool = False
    samples: list[str] = field(default_factory=list)

    def values(self) -> dict[str, float]:
        """Give the figures that are finite, by the names under which trackers show them."""
        told = {
            "train/ldm": self.ldm,
            "train/semantic": self.semantic,
            "train/grad_norm": self.grad_norm,
            "train/learning_rate": self.learning_rate,
        }
        return {name: value for name, value in told.items() if value is not None}


class History:
    """Collects readings, writes them, and ends a run that has gone wrong.

    Arguments:
        file: `history.jsonl`; None on processes that do not write.
        sample_ids: step (the first is 0) -> ids of its effective batch, to name the samples of a bad step.
        max_bad_steps: so many bad steps in a row raise `TrainingDiverged`.
        bad_in_a_row: of the run that is resumed.
    """

    def __init__(
        self,
        file: Path | None,
        sample_ids: Callable[[int], list[str]],
        max_bad_steps: int,
        bad_in_a_row: int = 0,
    ) -> None:
        self._file, self._sample_ids, self._max_bad_steps = file, sample_ids, max_bad_steps
        self.bad_in_a_row = bad_in_a_row
        self.skipped = 0
        self.last: StepRecord | None = None
        self._waiting: list[StepReading] = []

    def add(self, reading: StepReading) -> None:
        """Take a step's reading without waiting for the device."""
        self._waiting.append(reading)

    def read(self) -> list[StepRecord]:
        """Wait for the device, write what was waiting, and return it. Faults are `check`'s to tell."""
        if not self._waiting:
            return []
        flags = torch.stack(
            [torch.stack([reading.skipped, reading.bad]) for reading in self._waiting]
        ).tolist()
        values = torch.stack([reading.values for reading in self._waiting]).tolist()
        waiting, self._waiting = self._waiting, []
        records = [
            self._record(reading, value, skipped, bad)
            for reading, value, (skipped, bad) in zip(waiting, values, flags, strict=True)
        ]
        self.last = records[-1]
        if self._file is not None:
            append_text(self._file, "".join(canonical_json(asdict(record)) + "\n" for record in records))
        return records

    @property
    def diverged(self) -> bool:
        """Whether too many steps in a row were bad."""
        return self.bad_in_a_row >= self._max_bad_steps

    def check(self) -> None:
        """Raise `TrainingDiverged` where that is so, with what to try."""
        if not self.diverged or self.last is None:
            return
        named = f" (last with {', '.join(self.last.samples[:5])})" if self.last.samples else ""
        raise TrainingDiverged(
            f"the loss or its gradient was not finite in {self.bad_in_a_row} steps in a row, up to step "
            f"{self.last.step}{named}; the weights are still those of the last good step: try a lower "
            "learning_rate, precision bf16 or fp32 instead of fp16, or look at the pictures that the "
            "warnings name."
        )

    def _record(self, reading: StepReading, values: list[float], skipped: bool, bad: bool) -> StepRecord:
        finite = [value if math.isfinite(value) else None for value in values]
        samples = self._blame(reading) if bad else []
        if bad:
            self.bad_in_a_row += 1
            logger.warning("step %d was skipped: not finite; samples: %s", reading.step, ", ".join(samples))
        elif not skipped:  # a step that only lowers the fp16 loss scale is neither good nor bad
            self.bad_in_a_row = 0
        self.skipped += skipped
        return StepRecord(
            reading.step, finite[0], finite[1], finite[2], reading.learning_rate, bool(skipped), samples
        )

    def _blame(self, reading: StepReading) -> list[str]:
        """Name the samples whose own loss was not finite; all of the step where only the gradient was."""
        ids = self._sample_ids(reading.step - 1)
        culprits = [name for name, bad in zip(ids, reading.bad_samples.tolist(), strict=True) if bad]
        return sorted(set(culprits or ids))


def read_history(file: Path) -> list[StepRecord]:
    """Read `history.jsonl`; a last line that a killed process left unfinished is passed over."""
    records = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        try:
            records.append(StepRecord(**json.loads(line)))
        except (ValueError, TypeError):
            break
    return records


def cut_history(file: Path, step: int) -> None:
    """Keep the steps up to `step`: those after it are about to be done again."""
    lines = [canonical_json(asdict(record)) + "\n" for record in read_history(file) if record.step <= step]
    atomic_write_text(file, "".join(lines))
