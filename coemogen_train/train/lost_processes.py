"""What is done when another process of the run is gone: save the last whole step, and tell of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
_LONGEST_CAUSE = 200


class ProcessLost(Exception):
    """Another process of the run has ended or is silent; what could be saved was. The command exits with 75.

    Whoever trained on GPUs ends the process by `os._exit` then: torch would first take down its groups, and
    NCCL's would wait for the lost process.

    Attributes:
        step: optimiser steps of the newest checkpoint; None: there is none.
        checkpoint: the folder of the checkpoints.
    """

    CODE = 75
    """"Try again" among the exit codes of Unix: with --resume, nothing is lost."""

    def __init__(self, step: int | None, checkpoint: Path, peers: Peers, cause: BaseException) -> None:
        """peers: this process's; the first one saves, and may still be at it. cause: what was noticed."""
        if step is None:
            state = "nothing was saved yet"
        elif peers.main:
            state = f"step {step} is saved in {checkpoint}"
        else:
            state = f"the newest checkpoint in {checkpoint} is of step {step} or a later one"
        who = "" if peers.main else f"{peers.called(peers.index)}: "
        noticed = str(cause).split("\n", 1)[0][:_LONGEST_CAUSE]
        super().__init__(
            f"{who}another process of this run has ended, or can no longer be reached ({noticed}): {state}; "
            "go on with --resume, on as many processes as there are"
        )
        self.step, self.checkpoint = step, checkpoint


@contextmanager
def saved_when_lost(run: Run, history: History, checkpoints: Path, done: Callable[[], int]) -> Iterator[None]:
    """While entered, turn a broken exchange into a checkpoint and a `ProcessLost`.

    done: whole steps so far. The weights are of that step whenever an exchange fails: the optimiser moves
    them after the step's last exchange, and is counted before the next.
    """
    try:
        yield
    except Exception as error:
        if not run.peers.tells_of_loss(error):
            raise
        logger.debug("an exchange with the other processes failed", exc_info=error)
        raise _lost(run, history, checkpoints, done(), error) from None


@contextmanager
def told_when_lost(peers: Peers, checkpoints: Path) -> Iterator[None]:
    """While entered, turn a broken exchange outside the steps into a `ProcessLost`."""
    try:
        yield
    except Exception as error:
        if not peers.tells_of_loss(error):
            raise
        logger.debug("an exchange with the other processes failed", exc_info=error)
        raise ProcessLost(newest_step(checkpoints), checkpoints, peers, error) from None


def _lost(run: Run, history: History, checkpoints: Path, done: int, cause: Exception) -> ProcessLost:
    if run.peers.main:
        with _beside(run):
            _save(run, history, checkpoints, done)
    ends = time.monotonic() + (0 if run.peers.main else _SECONDS)
    while ((newest := newest_step(checkpoints)) is None or newest < done) and time.monotonic() < ends:
        time.sleep(0.1)
    return ProcessLost(newest, checkpoints, run.peers, cause)


def _save(run: Run, history: History, checkpoints: Path, done: int) -> None:
    try:
        history.read()
        if done and newest_step(checkpoints) != done:
            write_checkpoint(run, checkpoints, done, history.bad_in_a_row)
    except OSError as error:
        logger.warning("step %d could not be saved (%s)", done, error)


def _beside(run: Run) -> AbstractContextManager[object]:
    """Beside the device's own queue, which may wait for the lost process for ever; after the last step."""
    if run.device.type != "cuda":
        return nullcontext()
    stream = torch.cuda.Stream(run.device)
    if run.stepped is not None:
        stream.wait_event(run.stepped)
    return torch.cuda.stream(stream)
