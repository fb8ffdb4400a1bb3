"""What a fit costs: wall-clock seconds and peak memory, measured alike for every method."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ..files import atomic_write_text

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
def measured(folder: Path) -> Iterator[Cost]:
    """Measure what happens in the block; the figures are final when it ends.

    On a CUDA device the peak is that of the tensors there (`torch.cuda.max_memory_allocated`). Elsewhere it
    is that of the process with everything that it holds, libraries too, looked at five times a second.
    """
    import torch

    cost, began, ended = Cost.noted(folder), time.monotonic(), threading.Event()
    before = cost.seconds
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()

    def note() -> None:
        cost.seconds = before + time.monotonic() - began
        cost.peak_bytes = max(cost.peak_bytes, _bytes_now())
        atomic_write_text(folder / COST_FILE, json.dumps(asdict(cost)) + "\n")

    def watch() -> None:
        last = began
        while not ended.wait(_LOOK_EVERY):
            cost.peak_bytes = max(cost.peak_bytes, _bytes_now())
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


def _bytes_now() -> int:
    """Bytes in use: on the CUDA device the most since the block began, else of the process now."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return int(psutil.Process().memory_info().rss)
