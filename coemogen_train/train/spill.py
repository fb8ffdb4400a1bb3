"""Tells when training no longer fits the GPU, where the system would only become slow and say nothing.

Windows drivers move what does not fit the GPU's memory into the computer's own and go on, ten or a hundred
times slower, with no error for anybody to see.
"""

from __future__ import annotations

import logging
import statistics

import torch

logger = logging.getLogger(__name__)

_SLOWER = 3.0  # times the median before
_RECENT, _BEFORE = 3, 5  # readings; so that one hiccup of the machine is not told
_WORTH_TELLING = 1.0  # seconds per step, below which nobody waits
_LEAST_FREE = 0.03  # share of the device's memory
_ADVICE = "lower batch_size or resolution, or set gradient_checkpointing=true"


class SlowdownWatch:
    """Warns once when steps become much slower than they were, and once when the GPU is all but full."""

    def __init__(self) -> None:
        self._readings: list[float] = []
        self._told_slow = self._told_full = False

    def reading(self, seconds_per_step: float) -> None:
        """Take in a reading of the time per step, pauses apart. Called after the device was waited for."""
        self._readings.append(seconds_per_step)
        self._check_pace()
        if len(self._readings) > 1:  # the first steps allocate
            self._check_memory()

    def _check_pace(self) -> None:
        if self._told_slow or len(self._readings) < _RECENT + _BEFORE:
            return
        before = statistics.median(self._readings[:-_RECENT])
        recent = min(self._readings[-_RECENT:])
        if recent > max(_SLOWER * before, _WORTH_TELLING):
            self._told_slow = True
            logger.warning(
                "a step takes %.1f s now and took %.1f s before: another program may be using the machine, "
                "or, on Windows, the driver may be moving memory into RAM: %s",
                recent,
                before,
                _ADVICE,
            )

    def _check_memory(self) -> None:
        # Asking a GPU that this run does not use would take memory there.
        if self._told_full or not (torch.cuda.is_available() and torch.cuda.is_initialized()):
            return
        free, total = torch.cuda.mem_get_info()
        if free < _LEAST_FREE * total:
            self._told_full = True
            logger.warning(
                "%.1f of %.1f GiB of the GPU's memory are in use: when it is full, Windows becomes very slow "
                "and other systems stop the run: %s",
                (total - free) / 2**30,
                total / 2**30,
                _ADVICE,
            )
