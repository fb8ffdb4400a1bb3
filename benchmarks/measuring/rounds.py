"""Paired measurements: every round does each kind of work once, and a ratio is taken within a round, where a
busy machine slows both sides alike. Orders are balanced: every second round takes the reverse of the one
before, so that of two rounds each kind comes once before and once after each other kind.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch

Work = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """The median of some rounds' figures, with the lowest and the highest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def to_dict(self) -> dict[str, float]:
        """The three under their own names, as `--json` answers."""
        return {"median": self.median, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass
class Rounds:
    """Seconds of each kind of work, one per round; kinds that were not part of a round have fewer."""

    seconds: dict[str, dict[int, float]] = field(default_factory=dict)

    def add(self, round_: int, name: str, seconds: float) -> None:
        self.seconds.setdefault(name, {})[round_] = seconds

    def spread(self, name: str) -> Spread:
        """Seconds of one kind of work."""
        return Spread.of(list(self.seconds[name].values()))

    def ratio(self, one: str, other: str) -> Spread:
        """How many times as long `one` takes as `other`, within the rounds that had both."""
        ones, others = self.seconds[one], self.seconds[other]
        return Spread.of([ones[number] / others[number] for number in sorted(ones.keys() & others.keys())])

    def to_dict(self) -> dict[str, list[float]]:
        return {name: list(times.values()) for name, times in self.seconds.items()}


def interleave(
    works: Mapping[str, Work],
    rounds: int,
    device: torch.device | None = None,
    warm_up: int = 1,
    seed: int = 0,
    every: Mapping[str, int] | None = None,
    warmed: Collection[str] | None = None,
    told: Callable[[int, str, float], None] = lambda _round, _name, _seconds: None,
) -> Rounds:
    """Time each of `works` once a round, after `warm_up` untimed rounds.

    The order is drawn for the first round, the third and so on; each round between has the reverse.

    Args:
        device: waited for before and after each piece of work; None or a CPU: nothing to wait for.
        every: for kinds of work that are dear: only every so many-th round has them (the first always does).
        warmed: which kinds the untimed rounds have, where all would be dear; None: all.
        told: called with round, name and seconds as they come.
    """
    draw, order, found = random.Random(seed), list(works), Rounds()
    for number in range(-warm_up, rounds):
        if number % 2 == 0:
            draw.shuffle(order)
        else:
            order.reverse()
        for name in order:
            if not _has_turn(number, name, every or {}, works if warmed is None else warmed):
                continue
            gc.collect()
            wait_for(device)
            begun = time.perf_counter()
            works[name]()
            wait_for(device)
            if number >= 0:
                found.add(number, name, passed := time.perf_counter() - begun)
                told(number, name, passed)
    return found


def _has_turn(number: int, name: str, every: Mapping[str, int], warmed: Collection[str]) -> bool:
    """Whether a round has a kind of work; rounds below 0 are untimed."""
    return name in warmed if number < 0 else number % every.get(name, 1) == 0


def wait_for(device: torch.device | None) -> None:
    """Wait until a device has done all that it was given."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device is not None and device.type == "mps":
        torch.mps.synchronize()
