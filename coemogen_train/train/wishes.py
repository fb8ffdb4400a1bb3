"""What several processes agree on: what people ask of a run, and whatever one of them alone can know."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from .control import Control

if TYPE_CHECKING:
    from accelerate import Accelerator


class Wishes:
    """What people ask for, and when several processes look for it: at the same steps, every few seconds.

    A launcher that is told to stop gives its processes half a minute, and looking together makes them wait
    for one another.
    """

    _SECONDS = 5.0

    def __init__(self, accelerator: Accelerator, control: Control, done: int) -> None:
        self._accelerator, self._control = accelerator, control
        self._looked_at, self._looked, self._next = done, time.monotonic(), done + 1

    def after(self, done: int, looks: bool) -> tuple[bool, bool]:
        """Give (stop, save) after `done` steps. looks: whether the files are looked for now."""
        several = self._accelerator.num_processes > 1
        if several and done < self._next:
            return False, False
        if several or looks:
            self._control.poll()
        stop = agreed(self._accelerator, self._control.stop_requested)
        save = agreed(self._accelerator, self._control.take_save())
        if several:
            self._plan_next(done)
        return stop, save

    def _plan_next(self, done: int) -> None:
        now = time.monotonic()
        pace = torch.tensor((now - self._looked) / (done - self._looked_at), device=self._accelerator.device)
        mean = float(self._accelerator.reduce(pace, "mean"))  # the same number everywhere
        self._looked_at, self._looked = done, now
        self._next = done + max(1, int(self._SECONDS / max(mean, 1e-6)))


def agreed(accelerator: Accelerator, wish: bool) -> bool:
    """Whether any of the processes says so; all must ask at the same time."""
    if accelerator.num_processes == 1:
        return wish
    return bool(accelerator.reduce(torch.tensor(float(wish), device=accelerator.device), "sum") > 0)
