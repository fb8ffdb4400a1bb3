"""How an effective batch is divided over processes, so that a run goes on with more or fewer of them.

Samples, noise and timesteps follow from their position in the effective batch: as long as that keeps its
size, a run is the same however it is divided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .config import TrainConfig


@dataclass(frozen=True)
class Division:
    """An effective batch of `processes` x `batch_size` pictures at a time x `accumulate` of these."""

    processes: int
    batch_size: int
    accumulate: int

    @property
    def whole(self) -> int:
        """The effective batch."""
        return self.processes * self.batch_size * self.accumulate

    @classmethod
    def of(cls, config: TrainConfig, processes: int) -> Division:
        return cls(processes, config.batch_size, config.accumulate)

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Division:
        """That with which a checkpoint's run was begun, not that with which it went on meanwhile."""
        if "begun" in state:
            return cls(**state["begun"])
        settings = state["settings"]
        return cls(state["processes"], settings["batch_size"], settings["accumulate"])

    def to_dict(self) -> dict[str, int]:
        return {
            "processes": self.processes,
            "batch_size": self.batch_size,
            "accumulate": self.accumulate,
        }

    def __str__(self) -> str:
        return f"{counted(self.processes)} of {self.batch_size} x {self.accumulate} pictures"


def divided(
    config: TrainConfig, processes: int, begun: Division, where: Path
) -> tuple[TrainConfig, str | None]:
    """Give the settings with which `processes` go on with a run, and what there is to tell of it.

    Where these settings do not make up the run's effective batch, and it is the number of processes that is
    another, `batch_size` stays or becomes the largest that divides, and `accumulate` follows.

    Arguments:
        begun: how the run was begun. where: its checkpoints.

    Raises:
        ConfigError: an effective batch that cannot be shared equally; with the numbers that can.
    """
    asked = Division.of(config, processes)
    # With as many processes as before, another batch is for `check_resume` to judge.
    if asked.whole == begun.whole or processes == begun.processes:
        return config, None
    if begun.whole % processes:
        fitting = [number for number in range(1, begun.whole + 1) if begun.whole % number == 0]
        raise ConfigError(
            f"{where}: a step of this run takes {begun.whole} pictures, which {processes} processes cannot "
            f"share equally: go on with {_one_of(fitting)}."
        )
    share = begun.whole // processes
    size = max(number for number in range(1, min(config.batch_size, share) + 1) if share % number == 0)
    accumulate = share // size
    told = f"the run was begun with {begun}: {counted(processes)} {'goes' if processes == 1 else 'go'} on "
    told += f"with {size} x {accumulate}, which makes the same steps."
    return config.model_copy(update={"batch_size": size, "accumulate": accumulate}), told


def counted(processes: int) -> str:
    return "1 process" if processes == 1 else f"{processes} processes"


def _one_of(numbers: list[int]) -> str:
    *others, last = map(str, numbers)
    return f"{', '.join(others)} or {last} of them" if others else f"{last} of them"
