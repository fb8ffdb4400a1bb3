"""The processes that train together: how they wait for one another, and how each learns that another is gone.

They wait in two ways. What belongs to a step (DDP's gradients, the tally) is exchanged in the launch's own
group and may take `lost_after` seconds. Whatever one of them does alone while the others wait (caching,
fitting clusters, drawing previews, saving) may take days: they meet in a second group, by gloo and in main
memory, where a process is given up only when it ends or falls silent.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.autograd.graph import register_multi_grad_hook

from .signs_of_life import SignsOfLife

if TYPE_CHECKING:
    from accelerate import Accelerator

LOST_AFTER = 600.0
"""Seconds after which a process that does not answer counts as lost, unless the settings say otherwise."""

_PATIENT = timedelta(days=30)
# Seconds for which a step is still waited for after somebody has asked to stop. torch's launcher kills half a
# minute after it has asked, and what is left of that must do for the checkpoint.
_HURRY = 10.0
# How torch's own libraries name themselves where a connection breaks: gloo has no error class of its own.
_BROKEN = re.compile(r"gloo|nccl|tcpstore|socket|connection (was )?(closed|reset|refused)|broken pipe", re.I)
# What the same libraries say of this machine and of how it was set up.
_OURS = re.compile(r"duplicate gpu|invalid usage|cuda error|out of memory", re.I)


class PeerGone(RuntimeError):
    """Another process of the run has ended, or has given no sign of life for too long."""


class Peers:
    """This process among those that train together; alone where there is but one.

    Attributes:
        index, count: this process's number, from 0, and how many there are.
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
        self._computed: Any = None
        self._exchanged = False
        if self.count > 1:
            self._patient = dist.new_group(backend="gloo", timeout=_PATIENT)

    @property
    def main(self) -> bool:
        """Whether this is the one process that writes."""
        return self.index == 0

    def called(self, index: int) -> str:
        """What people call a process, who count from 1."""
        return f"process {index + 1} of {self.count}"

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
            PeerGone, or whatever torch raises of a broken connection: see `tells_of_loss`.
        """
        if self.count > 1:
            self._wait(dist.barrier(group=self._patient, async_op=True))

    def gather(self, value: Any) -> list[Any]:
        """Give what each process has said (as JSON has it), by its number; waits and raises as `meet`."""
        if self.count == 1:
            return [value]
        said = torch.frombuffer(bytearray(json.dumps(value).encode("utf-8")), dtype=torch.uint8)
        lengths = torch.zeros(self.count, dtype=torch.int64)
        lengths[self.index] = len(said)
        lengths = self.sum(lengths)
        everything = torch.zeros(self.count, int(lengths.max()), dtype=torch.uint8)
        everything[self.index, : len(said)] = said
        rows = zip(self.sum(everything), lengths.tolist(), strict=True)
        return [json.loads(row[:length].numpy().tobytes()) for row, length in rows]

    def sum(self, tensor: Tensor) -> Tensor:
        """Give the sum of all processes' tensors, in main memory; waits and raises as `meet`."""
        if self.count == 1:
            return tensor
        summed = tensor.detach().cpu().clone()
        self._wait(dist.all_reduce(summed, group=self._patient, async_op=True))
        return summed

    def agree(self, wish: bool) -> bool:
        """Whether any of the processes says so; all must ask at the same time."""
        return bool(self.sum(torch.tensor(float(wish))) > 0)

    @contextmanager
    def own_gradients(self, parameters: Sequence[Tensor]) -> Iterator[None]:
        """Around the backward pass that exchanges gradients: note when this device has computed its own.

        What it waits for from then on is the others' part of the step, and only that can take too long.
        """
        if self.count == 1 or parameters[0].device.type != "cuda":
            yield
            return
        computed = self._computed = torch.cuda.Event()
        with register_multi_grad_hook(parameters, lambda _: computed.record()):
            yield

    def exchange(self, tally: Tensor) -> Tensor:
        """Give the sum of what a step has counted, on its device; the gradients were exchanged before it.

        On a GPU the host waits until it is there, by looking and not by blocking: nothing that moves the
        weights is given to the device before all that the step takes from others has come. So the weights
        are always those after a whole step, and a device that waits for a dead process can be left. On a CPU
        gloo waits, here and for the gradients: it feels at once that a process has ended, and gives up one
        that is frozen after `lost_after` seconds, whoever wants the run to stop.

        Raises:
            PeerGone, or whatever torch raises of a broken connection: see `tells_of_loss`.
        """
        # NCCL calls an exchange completed that has failed: that everybody was counted is the proof.
        counted = torch.cat([tally, tally.new_ones(1)])
        work = dist.all_reduce(counted, async_op=True)
        if tally.device.type != "cpu":
            self._wait(work, self._lost_after)
        work.wait()
        if float(counted[-1]) != self.count:
            raise PeerGone("a step's exchange has failed")
        self._exchanged = True
        return counted[:-1]

    def tells_of_loss(self, error: BaseException) -> bool:
        """Whether an error says that another process is gone, and not that something is wrong in this one.

        Until NCCL has exchanged a step, what it complains of is how this run was set up.
        """
        if self.count == 1 or not isinstance(error, RuntimeError):
            return False
        if isinstance(error, PeerGone):
            return True
        told = str(error)
        if _OURS.search(told):
            return False
        if isinstance(error, dist.DistBackendError) or "nccl" in told.lower():
            return self._exchanged
        return isinstance(error, dist.DistError) or _BROKEN.search(told) is not None

    def _wait(self, work: Any, seconds: float | None = None) -> None:
        """Wait for a piece of communication, looking at the others' signs of life.

        seconds: of a step's exchange; so long after this device's own part of the step it is given up, and
            soon where the run is to stop.
        """
        begun, asked, pause = None, None, 50e-6
        while not work.is_completed():
            time.sleep(pause)
            pause = min(1.5 * pause, 0.02)
            if self._signs is not None and (silent := self._signs.silent()):
                raise PeerGone(f"no sign of life from {', '.join(map(self.called, silent))}")
            if seconds is None or (self._computed is not None and not self._computed.query()):
                continue
            now = time.monotonic()
            begun = now if begun is None else begun
            asked = now if asked is None and self.hurried() else asked
            if now - begun > seconds or (asked is not None and now - asked > _HURRY):
                raise PeerGone(f"a step's exchange was not answered for {now - begun:.0f} seconds")
        work.wait()


ALONE = Peers()


def keep_nccl_from_ending_us() -> None:
    """Have NCCL's own watch give up its connections where another process is gone, and not this process.

    `Peers` then notices, and what was trained is saved first. To be called before the group is made. What
    somebody has set stays; torch's launcher sets 1 by itself, which nobody need have asked for.
    """
    name = "TORCH_NCCL_ASYNC_ERROR_HANDLING"
    if name not in os.environ or ("TORCHELASTIC_RUN_ID" in os.environ and os.environ[name] == "1"):
        os.environ[name] = "2"
