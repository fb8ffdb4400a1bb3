"""What a fit costs: wall-clock seconds and peak memory, measured alike for every method."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import atomic_write_text
from ..train.accelerator import make_accelerator

if TYPE_CHECKING:
    import torch

COST_FILE = "cost.json"
_LOOK_EVERY, _NOTE_EVERY = 0.2, 20.0  # seconds


@dataclass
class Cost:
    """Seconds and bytes so far; kept in the folder, so that a fit that was killed costs its parts' sum."""

    seconds: float = 0.0
    peak_bytes: int = 0

    @classmethod
    def noted(cls, folder: Path) -> Cost:
        """What earlier parts of the fit noted; nothing where there is no note that can be read."""
        try:
            return cls(**json.loads((folder / COST_FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return cls()


@contextmanager
def measured(folder: Path, device: str | None = None) -> Iterator[Cost]:
    """Measure what happens in the block; the figures are final when it ends.

    The peak is counted from what is held when the block begins: the process may hold other models. Where the
    block trains on a CUDA device it is that of the tensors there (`torch.cuda.max_memory_allocated`), else
    that of the process, libraries that the block loads too, looked at five times a second.

    Arguments:
        device: on which the block trains; see `make_accelerator`.
    """
    cost, began, ended = Cost.noted(folder), time.monotonic(), threading.Event()
    before, bytes_now = cost.seconds, _gauge(make_accelerator(device).device)
    held = bytes_now()

    def look() -> None:
        cost.peak_bytes = max(cost.peak_bytes, bytes_now() - held)

    def note() -> None:
        cost.seconds = before + time.monotonic() - began
        look()
        atomic_write_text(folder / COST_FILE, json.dumps(asdict(cost)) + "\n")

    def watch() -> None:
        last = began
        while not ended.wait(_LOOK_EVERY):
            look()
            if time.monotonic() - last >= _NOTE_EVERY:
                last = time.monotonic()
                note()

    folder.mkdir(parents=True, exist_ok=True)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield cost
    finally:
        ended.set()
        watcher.join()
        note()


def _gauge(device: torch.device) -> Callable[[], int]:
    """What tells the bytes in use: on a CUDA device the most from now on, else of the process at the time."""
    import psutil
    import torch

    if device.type == "cuda":
        # By its number, as the watching thread has a current device of its own.
        number = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.reset_peak_memory_stats(number)
        return lambda: int(torch.cuda.max_memory_allocated(number))
    return lambda: int(psutil.Process().memory_info().rss)
