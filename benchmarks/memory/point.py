"""One point of `benchmarks.memory`: what a step of some settings takes, told by the process that does it."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from coemogen_train.train.config import TrainConfig
from coemogen_train.train.step import optimise

from ..measuring.models import Size
from ..measuring.stepping import made_config, make_stepping

NAMES: dict[Size, str] = {"sd15": "SD 1.5's sizes", "toy": "the toy"}


@dataclass(frozen=True)
class Point:
    """The settings of one measurement."""

    size: Size
    resolution: int
    batch_size: int
    checkpointing: bool
    precision: str = "fp32"

    def config(self) -> TrainConfig:
        """The defaults of a run, with these settings."""
        settings = ("resolution", "batch_size", "precision")
        return made_config({name: getattr(self, name) for name in settings})

    def words(self) -> str:
        with_it = "with" if self.checkpointing else "without"
        return (
            f"{NAMES[self.size]}, {self.resolution} px, batch {self.batch_size}, {self.precision}, "
            f"{with_it} checkpointing"
        )


def step_alone(point: Point, device: torch.device) -> dict[str, int]:
    """In a process of its own: bytes before anything is made, of weights, and at the peak of two steps.

    anew: 1 where the peak is that of the steps, 0 where the system counts from the start of the process.
    There is no peak where only another process can see it.
    """
    _do_steps(Point("toy", 16, 1, False, point.precision), device)  # libraries load code when first used
    gc.collect()
    _give_back()
    bare = _bytes_now(device)
    return {"bare": bare, **_do_steps(point, device, bare)}


def _do_steps(point: Point, device: torch.device, bare: int = 0) -> dict[str, int]:
    run = make_stepping(point.size, point.config(), device, point.checkpointing)
    weights = _bytes_now(device)
    anew = _forget_peak(device)
    for step in range(2):  # the optimiser may need more when it has moments
        float(optimise(run, step).values[0])
    return {"weights": weights - bare, "anew": int(anew), **_peak(device, bare)}


def _give_back() -> None:
    """Let the C library return what is free in its heap, where it knows how."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _bytes_now(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _status("VmRSS") or int(psutil.Process().memory_info().rss)


def _forget_peak(device: torch.device) -> bool:
    """Let the peak begin anew: what was there while weights were made does not count. False: it cannot."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return True
    if sys.platform != "linux":
        return False
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:  # some containers forbid it
        return False
    return True


def _peak(device: torch.device, bare: int) -> dict[str, int]:
    """Bytes at the peak above `bare`, where the process itself can tell."""
    if device.type == "cuda":
        return {
            "peak": torch.cuda.max_memory_reserved(device) - bare,
            "allocated": torch.cuda.max_memory_allocated(device) - bare,
        }
    highest = _status("VmHWM")
    return {} if highest is None else {"peak": highest - bare}


def _status(key: str) -> int | None:
    """A figure of Linux about this process, in bytes; None where there is none."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":")), None)
