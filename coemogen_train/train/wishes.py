"""What people ask of several processes that train together: found out at the same steps, and agreed on."""

from __future__ import annotations

import time

import torch

from .control import Control
from .peers import Peers


class Wishes:
    """What people ask for, and when several processes look for it: at the same steps, every few seconds.

    A launcher that is told to stop gives its processes half a minute, and looking together makes them wait
    for one another.
    """

    _SECONDS = 5.0

    def __init__(self, peers: Peers, control: Control, done: int) -> None:
        self._peers, self._control = peers, control
        self._looked_at, self._looked, self._next = done, time.monotonic(), done + 1

    def after(self, done: int, looks: bool) -> tuple[bool, bool]:
        """Give (stop, save) after `done` steps. looks: whether the files are looked for now."""
        several = self._peers.count > 1
        if several and done < self._next:
            return False, False
        if several or looks:
            self._control.poll()
        stop = self._peers.agree(self._control.stop_requested)
        save = self._peers.agree(self._control.take_save())
        if several:
            self._plan_next(done)
        return stop, save

    def _plan_next(self, done: int) -> None:
        now = time.monotonic()
        pace = torch.tensor((now - self._looked) / (done - self._looked_at))
        mean = float(self._peers.sum(pace)) / self._peers.count  # the same number everywhere
        self._looked_at, self._looked = done, now
        self._next = done + max(1, int(self._SECONDS / max(mean, 1e-6)))
