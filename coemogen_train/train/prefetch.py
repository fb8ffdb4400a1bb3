"""The next micro-batch is made in a thread while the device computes the one before it.

A batch is a pure function of its step and positions, so one that was made ahead is the one that would be
made in line. The thread lives within a step: between steps, where losses are read, weights saved and
previews drawn, and after an error or Ctrl-C nothing is running.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .setup import MicroBatch, Stepping

logger = logging.getLogger(__name__)

_Turn = tuple[list[int], "MicroBatch", bool]


class NextBatch:
    """At most one micro-batch, made or in the making, of a known step."""

    def __init__(self) -> None:
        self._made: Future[tuple[int, list[int], MicroBatch]] | None = None
        self._thread: Thread | None = None

    def begin(self, make: Callable[[], tuple[int, list[int], MicroBatch]]) -> None:
        """Make (step, positions, micro-batch) in a thread, where the system gives one."""
        made: Future[tuple[int, list[int], MicroBatch]] = Future()
        thread = Thread(target=_fill, args=(made, make), name="next batch")
        try:
            thread.start()
        except RuntimeError as error:
            logger.debug("no batch is made ahead: %s", error)
            return
        self._made, self._thread = made, thread

    def settle(self) -> None:
        """Wait until nothing is in the making."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def take(self, step: int, positions: list[int]) -> MicroBatch | None:
        """Hand out what was made, once; None where it is another one, or could not be made."""
        self.settle()
        made, self._made = self._made, None
        if made is None or not made.done():
            return None
        if (error := made.exception()) is not None:
            logger.debug("a batch could not be made ahead, and is tried again", exc_info=error)
            return None
        of_step, of_positions, batch = made.result()
        return batch if (of_step, of_positions) == (step, positions) else None


@contextmanager
def micro_batches(run: Stepping, step: int) -> Iterator[Iterator[_Turn]]:
    """Give (positions, micro-batch, whether it is the last) of this process in a step, by turns.

    While one is at work the next is made, at the step's end the first of the step after it. What could not be
    made ahead is tried again when its turn comes, so that the error is raised there.
    """
    try:
        yield _turns(run, step)
    finally:
        run.next_batch.settle()


def _turns(run: Stepping, step: int) -> Iterator[_Turn]:
    turns = _division(run, step)
    for number, positions in enumerate(turns):
        batch = run.next_batch.take(step, positions)
        if batch is None:
            batch = _make(run, step, positions)
        if number + 1 < len(turns):
            _begin(run, step, turns[number + 1])
        elif step + 1 < run.config.steps:
            _begin(run, step + 1, None)
        yield positions, batch.to(run.device), number + 1 == len(turns)


def _begin(run: Stepping, step: int, positions: list[int] | None) -> None:
    """Make the micro-batch of `positions`; None: the first of the step."""

    def make() -> tuple[int, list[int], MicroBatch]:
        chosen = _division(run, step)[0] if positions is None else positions
        return step, chosen, _make(run, step, chosen)

    run.next_batch.begin(make)


def _make(run: Stepping, step: int, positions: list[int]) -> MicroBatch:
    batch = run.batches.batch(step, positions)
    return batch.pin_memory() if run.device.type == "cuda" else batch


def _division(run: Stepping, step: int) -> list[list[int]]:
    process, processes = run.accelerator.process_index, run.accelerator.num_processes
    return run.batches.micro_batches(step, run.config.batch_size, process, processes)


def _fill(made: Future[Any], make: Callable[[], Any]) -> None:
    try:
        made.set_result(make())
    except Exception as error:
        made.set_exception(error)
