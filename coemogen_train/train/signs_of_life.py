"""Signs of life: what each process of a run tells the others every few seconds, whatever else it is doing.

A process that dies closes its connections, which the others feel at once. One that is frozen, or behind a
network that is gone, closes nothing: only its silence tells.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from datetime import timedelta
from typing import Any

logger = logging.getLogger(__name__)

_SECONDS = 5.0


class SignsOfLife(threading.Thread):
    """Gives this process's own signs, and watches those of the others, in the store of the launch.

    All of it is done by this thread, on a connection of its own: a store whose host is frozen holds up
    nobody but it, and then every process looks silent. Clocks are never compared between machines.
    """

    def __init__(self, index: int, count: int, patience: float) -> None:
        """patience: seconds of silence after which a process counts as lost."""
        super().__init__(name="signs of life", daemon=True)
        self._index, self._patience = index, patience
        self._pause = min(_SECONDS, patience / 4)
        # The number of signs and when the last was new, of each; nobody until the store was reached once.
        self._others: dict[int, tuple[int, float]] = {}
        self._numbers = [number for number in range(count) if number != index]
        self._done = threading.Event()

    def silent(self) -> list[int]:
        """Which processes have given no sign for longer than the patience; none where none can be heard."""
        now = time.monotonic()
        others = sorted(self._others.items())
        return [number for number, (_, seen) in others if now - seen > self._patience]

    def stop(self) -> None:
        self._done.set()

    def run(self) -> None:
        """Give a sign, look at those of the others, wait; until stopped, or where nothing was ever heard."""
        store, told = None, False
        while not self._done.is_set():
            try:
                store = store or _reach_store(self._patience)
                self._look(store)
            except (RuntimeError, OSError, KeyError) as error:
                store = None
                if not told and not self._done.is_set():
                    told = True
                    self._tell(error)
                if not self._others:
                    return
            self._done.wait(self._pause)

    def _look(self, store: Any) -> None:
        store.add(self._key(self._index), 1)
        heard = {number: store.add(self._key(number), 0) for number in self._numbers}
        for number, signs in heard.items():
            if number not in self._others or signs != self._others[number][0]:
                self._others[number] = (signs, time.monotonic())

    def _tell(self, error: Exception) -> None:
        reason = str(error).split("\n", 1)[0][:200]
        if self._others:
            logger.warning("the store of the launch does not answer (%s): it is tried again", reason)
        else:
            logger.warning(
                "the store of the launch cannot be reached (%s): a process that freezes will be noticed late",
                reason,
            )

    @staticmethod
    def _key(number: int) -> str:
        return f"coemogen/signs_of_life/{number}"


def _reach_store(patience: float) -> Any:
    """Connect with the store where the launch's processes met.

    Raises:
        KeyError: nobody told where that is, as under MPI.
        RuntimeError: it does not answer.
    """
    from torch.distributed import TCPStore

    # As torch itself decides it: its wheels for Windows come without libuv.
    libuv = os.environ.get("USE_LIBUV", "0" if sys.platform == "win32" else "1") == "1"
    return TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=False,
        wait_for_workers=False,
        timeout=timedelta(seconds=patience),
        use_libuv=libuv,
    )
