"""Signs of life: what each process of a run tells the others every few seconds, whatever else it is doing.

A process that dies closes its connections, which the others feel at once. One that is frozen, or behind a
network that is gone, closes nothing: only its silence tells.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from datetime import timedelta

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
        self._others = {number: (0, time.monotonic()) for number in range(count) if number != index}
        self._done = threading.Event()
        # Nobody told where to meet (launched through MPI): silence can then not be heard.
        self._works = {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()

    def silent(self) -> list[int]:
        """Which processes have given no sign for longer than the patience."""
        now = time.monotonic()
        return [
            number
            for number, (_, seen) in sorted(self._others.items())
            if self._works and now - seen > self._patience
        ]

    def stop(self) -> None:
        self._done.set()

    def run(self) -> None:
        """Give a sign, look at those of the others, wait; until stopped, or the store cannot be reached."""
        from torch.distributed import TCPStore

        if not self._works:
            return
        # The store's host ends first where it dies, and its silence is what is to be seen then.
        with suppress(RuntimeError, OSError):
            store = TCPStore(
                os.environ["MASTER_ADDR"],
                int(os.environ["MASTER_PORT"]),
                is_master=False,
                wait_for_workers=False,
                timeout=timedelta(seconds=self._patience),
            )
            while True:
                store.add(self._key(self._index), 1)
                for number, (known, _) in self._others.items():
                    if (signs := store.add(self._key(number), 0)) != known:
                        self._others[number] = (signs, time.monotonic())
                if self._done.wait(self._pause):
                    return

    @staticmethod
    def _key(number: int) -> str:
        return f"coemogen/signs_of_life/{number}"
