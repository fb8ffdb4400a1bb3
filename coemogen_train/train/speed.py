"""How long a run will take, roughly: what it computes, over what this machine does in half a second.

A step is products, everything else (norms, sums, copies), and the calling of each. The products go at a share
of the speed of a plain matrix product, the rest at the speed of memory. Measured on two cores of a CPU, the
estimate of a step was within a third for Stable Diffusion 1.5 at 256 pixels and for the toy at 64; a step on
several busy cores, or in half precision on a CPU that lacks it, may take twice as long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch

from .rehearsal import Rehearsal

# Share of a matrix product's speed that convolutions, attention and narrow layers reach.
UTILISATION = 0.55
_SPELLS, _SPELL_SECONDS = 4, 0.06
_SIDE = {"cpu": 1024, "cuda": 8192, "mps": 4096}
_COPIED = {"cpu": 1 << 26, "cuda": 1 << 30, "mps": 1 << 28}  # bytes
_CALL_SECONDS = 1e-5


@dataclass(frozen=True)
class DeviceSpeed:
    """What a device does in a second: FLOPs of matrix products, bytes of copies (read and written)."""

    flops: float
    bytes_moved: float

    def seconds(self, work: Rehearsal) -> float:
        """Estimate how long some work takes."""
        calculating = work.flops / (UTILISATION * self.flops) + work.moved_bytes / self.bytes_moved
        return calculating + work.calls * _CALL_SECONDS


@lru_cache
def measure_speed(device: torch.device, dtype: torch.dtype) -> DeviceSpeed:
    """Time matrix products in `dtype` and copies on `device`, about half a second in all."""
    side = _SIDE.get(device.type, 1024)
    left = torch.full((side, side), 0.01, device=device, dtype=dtype)
    out = torch.empty_like(left)
    products = _per_second(lambda: torch.matmul(left, left, out=out), device)
    source = torch.zeros(_COPIED.get(device.type, 1 << 26), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copies = _per_second(lambda: target.copy_(source), device)
    return DeviceSpeed(2 * side**3 * products, 2 * source.numel() * copies)


def _per_second(work: Callable[[], object], device: torch.device) -> float:
    """How often `work` can be done in a second, in the best of a few short spells."""
    work()
    _wait(device)
    best = 0.0
    for _ in range(_SPELLS):
        start, times = time.perf_counter(), 0
        while (passed := time.perf_counter() - start) < _SPELL_SECONDS:
            work()
            _wait(device)
            times += 1
        best = max(best, times / passed)
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def readable_duration(seconds: float) -> str:
    """Write a duration as one estimates it: about 40 s, 12 min, 3 h, 5 days."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    hours = seconds / 3600
    if hours < 48:
        return f"{hours:.1f} h" if hours < 10 else f"{round(hours)} h"
    return f"{round(hours / 24)} days"
