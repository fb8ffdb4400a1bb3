"""The processes that train together: how they wait for one another, and how each learns that another is gone.

They wait in two ways. What belongs to a step (DDP's gradients, the tally) is exchanged in the launch's own
group and may take `lost_after` seconds. Whatever one of them does alone while the others wait (caching,
fitting clusters, drawing previews, saving) may take days: they meet in a second group, by gloo and in main
memory, where a process is given up only when it ends or falls silent.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch import distributed as dist

from .signs_of_life import SignsOfLife

if TYPE_CHECKING:
    from accelerate import Accelerator

LOST_AFTER = 600.0
"""Seconds after which a process that does not answer counts as lost, unless the settings say otherwise."""

_PATIENT = timedelta(days=30)
# Launchers kill half a minute after they have asked to stop: a step that hangs must be given up before.
_HURRY = 10.0
# How torch's own libraries name themselves where a connection breaks: gloo has no error class of its own.
_BROKEN = re.compile(r"gloo|nccl|tcpstore|socket|connection (was )?(closed|reset|refused)|broken pipe", re.I)


class PeerGone(RuntimeError):
    """Another process of the run has ended, or has given no sign of life for too long."""


class Peers:
    """This process among those that train together; alone where there is but one.

    Attributes:
        index, count: this process's number, and how many there are.
        hurried: says whether somebody wants the run to stop: then a step's exchange is not waited for long.
    """

    def __init__(self, accelerator: Accelerator | None = None, lost_after: float = LOST_AFTER) -> None:
        """To be made by all processes at the same time. lost_after: seconds, as for `make_accelerator`."""
        self.index = accelerator.process_index if accelerator is not None else 0
        self.count = accelerator.num_processes if accelerator is not None else 1
        self.hurried: Callable[[], bool] = lambda: False
        self._lost_after = lost_after
        self._patient: Any = None
        self._signs: SignsOfLife | None = None
        if self.count > 1:
            self._patient = dist.new_group(backend="gloo", timeout=_PATIENT)

    @property
    def main(self) -> bool:
        """Whether this is the one process that writes."""
        return self.index == 0

    def __enter__(self) -> Peers:
        if self.count > 1:
            self._signs = SignsOfLife(self.index, self.count, self._lost_after)
            self._signs.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._signs is not None:
            self._signs.stop()

    def meet(self) -> None:
        """Wait for all, however long one of them works alone.

        Raises:
            PeerGone, or whatever torch raises of a broken connection: see `is_loss`.
        """
        if self.count > 1:
            self._finish(dist.barrier(group=self._patient, async_op=True), hurry=False)

    def gather(self, value: Any) -> list[Any]:
        """Give what each process has said, by its number; waits and raises as `meet`."""
        told: list[Any] = [value] * self.count
        if self.count > 1:
            self.meet()
            dist.all_gather_object(told, value, group=self._patient)
        return told

    def sum(self, tensor: Tensor) -> Tensor:
        """Give the sum of all processes' tensors, in main memory; waits and raises as `meet`."""
        if self.count == 1:
            return tensor
        summed = tensor.detach().cpu().clone()
        self._finish(dist.all_reduce(summed, group=self._patient, async_op=True), hurry=False)
        return summed

    def agree(self, wish: bool) -> bool:
        """Whether any of the processes says so; all must ask at the same time."""
        return bool(self.sum(torch.tensor(float(wish))) > 0)

    def exchange(self, tally: Tensor) -> Tensor:
        """Give the sum of what a step has counted, on its device; the gradients were exchanged before it.

        The host waits until it is there, by looking and not by blocking: nothing that moves the weights is
        given to the device before all that the step takes from others has come. So the weights are always
        those after a whole step, and a device that waits for a dead process can be left.
        """
        work = dist.all_reduce(tally, async_op=True)
        if tally.device.type != "cpu":
            self._finish(work, hurry=True, seconds=self._lost_after)
        work.wait()
        return tally

    def is_loss(self, error: BaseException) -> bool:
        """Whether an error says that another process is gone, and not that something is wrong in this one."""
        if self.count == 1 or not isinstance(error, RuntimeError):
            return False
        return isinstance(error, (PeerGone, dist.DistError)) or _BROKEN.search(str(error)) is not None

    def _finish(self, work: Any, hurry: bool, seconds: float = float("inf")) -> None:
        """Wait for a piece of communication, looking at the others' signs of life.

        hurry: give up soon once the run is to stop. seconds: give up in any case after so many.
        """
        begun, pause, asked = time.monotonic(), 50e-6, None
        while not work.is_completed():
            time.sleep(pause)
            pause = min(1.5 * pause, 0.02)
            now = time.monotonic()
            if hurry and asked is None and self.hurried():
                asked = now
            if now - begun > seconds or (asked is not None and now - asked > _HURRY):
                raise PeerGone("a step's exchange was not answered")
            if self._signs is not None and (silent := self._signs.silent()):
                raise PeerGone(f"no sign of life from process {', '.join(map(str, silent))}")
        work.wait()


ALONE = Peers()


def keep_nccl_from_ending_us() -> None:
    """Have NCCL's own watch give up its connections where another process is gone, and not this process.

    `Peers` then notices, and what was trained is saved first. To be called before the group is made; torch's
    launcher says otherwise in the environment.
    """
    os.environ["TORCH_NCCL_ASYNC_ERROR_HANDLING"] = "2"
