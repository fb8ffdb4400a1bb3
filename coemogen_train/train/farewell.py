"""What is done when another process of the run is gone: save the last whole step, and tell of it."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .checkpoint import newest_step
from .peers import Peers
from .resume import write_checkpoint

if TYPE_CHECKING:
    from .history import History
    from .setup import Run

logger = logging.getLogger(__name__)

# How long the others look for the checkpoint that the first process writes, if it is still there.
_SECONDS = 5.0


class ProcessLost(Exception):
    """Another process of the run has ended or is silent; what could be saved was. The command exits with 75.

    Attributes:
        step: optimiser steps of the newest checkpoint; None: there is none.
        checkpoint: the folder of the checkpoints.
    """

    CODE = 75
    """"Try again" among the exit codes of Unix: with --resume, nothing is lost."""

    def __init__(self, step: int | None, checkpoint: Path, saved: bool, who: str = "") -> None:
        """saved: by this process; otherwise the first one may still be at it. who: begins the sentence."""
        if step is None:
            state = "nothing was saved yet"
        elif saved:
            state = f"step {step} is saved in {checkpoint}"
        else:
            state = f"the newest checkpoint in {checkpoint} is of step {step} or a later one"
        super().__init__(
            f"{who}another process of this run has ended, or can no longer be reached: {state}; go on with "
            "--resume, on as many processes as there are"
        )
        self.step, self.checkpoint = step, checkpoint


@contextmanager
def saved_when_left(run: Run, history: History, checkpoints: Path, done: Callable[[], int]) -> Iterator[None]:
    """While entered, turn a broken exchange into a checkpoint and a `ProcessLost`.

    done: whole steps so far. The weights are of that step whenever an exchange fails: the optimiser moves
    them after the step's last exchange, and is counted before the next.
    """
    try:
        yield
    except Exception as error:
        if not run.peers.is_loss(error):
            raise
        logger.debug("an exchange with the other processes failed", exc_info=error)
        raise _left(run, history, checkpoints, done()) from None


@contextmanager
def told_when_left(peers: Peers, checkpoints: Path) -> Iterator[None]:
    """While entered, turn a broken exchange outside the steps into a `ProcessLost`."""
    try:
        yield
    except Exception as error:
        if not peers.is_loss(error):
            raise
        logger.debug("an exchange with the other processes failed", exc_info=error)
        raise ProcessLost(newest_step(checkpoints), checkpoints, peers.main, _who(peers)) from None


def _left(run: Run, history: History, checkpoints: Path, done: int) -> ProcessLost:
    device = run.device
    if device.type == "cuda":
        _leave_without_torch()
    # The device's own queue may wait for the dead process for ever; what was finished is read beside it.
    beside = torch.cuda.stream(torch.cuda.Stream(device)) if device.type == "cuda" else nullcontext()
    with beside:
        if run.peers.main:
            return _save(run, history, checkpoints, done)
    ends = time.monotonic() + _SECONDS
    while (newest := newest_step(checkpoints)) is None or newest < done:
        if time.monotonic() > ends:
            break
        time.sleep(0.1)
    return ProcessLost(newest, checkpoints, False, _who(run.peers))


def _save(run: Run, history: History, checkpoints: Path, done: int) -> ProcessLost:
    try:
        history.read()
        if done and newest_step(checkpoints) != done:
            write_checkpoint(run, checkpoints, done, history.bad_in_a_row)
    except OSError as error:
        logger.warning("step %d could not be saved (%s)", done, error)
    return ProcessLost(newest_step(checkpoints), checkpoints, True)


def _who(peers: Peers) -> str:
    return "" if peers.main else f"process {peers.index} of {peers.count}: "


def _leave_without_torch() -> None:
    """End the process, when it ends, before torch takes down its groups: NCCL's would wait for the dead."""

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ProcessLost.CODE)

    atexit.register(leave)
