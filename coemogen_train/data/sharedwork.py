"""Long work cut into parts, shared by any number of processes through a folder, and safe against `kill -9`.

A part is a function of the source or the set alone, never of who does it or of what is left to do; its result
is one file, written atomically. So a stopped run goes on where it was, several processes (`accelerate
launch`, or the same command on several machines that see the same folder) share the parts, and all of them
leave the same bytes as one process that was never interrupted. Who dies takes the part in hand with him,
and another does it again. There is no other communication than this folder:

    SET/.work/<name>/parts/      results that are no file of the set yet
    SET/.work/<name>/locks/      a part belongs to the process that holds its lock
    SET/.work/<name>/present/    a locked file for each process at work
    SET/.work/<name>/done.json   what the run answered, for the processes that did not finish it

The last process to leave finished work removes all of it (only .work/gate.lock stays, which is empty).
"""

from __future__ import annotations

import errno
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import atomic_write_text, canonical_json

logger = logging.getLogger(__name__)

_POLL = 0.2
_NO_LOCKS_HERE = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@dataclass(frozen=True)
class Crew:
    """The processes that do one piece of work. index: this one's number, below count.

    place: this one's number among the `places` of them that run on its machine.
    """

    index: int = 0
    count: int = 1
    place: int = 0
    places: int = 1

    @classmethod
    def from_environment(cls) -> Crew:
        """As `accelerate launch` and `torchrun` tell it to each process; alone where nobody does."""
        count = _number("WORLD_SIZE", 1)
        index = _number("RANK", 0)
        if not 0 <= index < count:
            return cls()
        place, places = _number("LOCAL_RANK", 0), _number("LOCAL_WORLD_SIZE", 1)
        return cls(index, count, place, places) if 0 <= place < places <= count else cls(index, count)

    @property
    def speaks(self) -> bool:
        """Whether this process is the one that shows progress and answers."""
        return self.index == 0


ALONE = Crew()


class SharedWork:
    """One piece of work on a set, such as its captions; from when it is made until `run` has ended, others
    know that this process is at it.

    folder: SET/.work/<name>, made here. plan: digest of all that the parts depend on; part results of another
        plan are not this one's. crew: who works beside this process.
    """

    def __init__(self, folder: Path, plan: str, crew: Crew = ALONE):
        self.folder, self.plan, self.crew = folder, plan, crew
        self.parts = folder / "parts"
        self._locks = folder / "locks"
        self._present = folder / "present"
        self._stamp = folder / "done.json"
        self._presence = ExitStack()
        self._own = self._present / f"{secrets.token_hex(8)}.lock"
        with self._gate():
            self._presence.enter_context(self._lock(self._own.name, wait=True, folder=self._present))
            self.parts.mkdir(parents=True, exist_ok=True)
            self._seen = self._stamped()

    def run(
        self,
        count: int,
        is_done: Callable[[int], bool],
        do: Callable[[int], None],
        finish: Callable[[], dict[str, Any]],
        on_done: Callable[[int], None] = lambda _part: None,
    ) -> dict[str, Any]:
        """Do the parts 0 .. count - 1 that are not done, together with the crew; then one process finishes.

        Args:
            is_done: whether a part's result is there and whole; cheap, it is asked often while waiting.
            do: makes a part's result, atomically; no other process does the same part at that time.
            finish: from all results to the set's own files; returns plain JSON, which all processes get.
            on_done: told once of every part, done here or elsewhere.

        Raises: whatever `do` and `finish` raise; what was done by then stays.
        """
        with self._presence:
            answer = self._do_all(count, is_done, do, on_done)
            if answer is None:
                answer = self._finish(finish)
        self._own.unlink(missing_ok=True)
        self._leave()
        return answer

    def _do_all(
        self,
        count: int,
        is_done: Callable[[int], bool],
        do: Callable[[int], None],
        on_done: Callable[[int], None],
    ) -> dict[str, Any] | None:
        """See all parts done; the answer, where another process has finished everything meanwhile."""
        left = _rotated(count, self.crew)
        while left:
            waiting = [part for part in left if not self._attend(part, is_done, do, on_done)]
            if len(waiting) == len(left):
                if (answer := self._finished_elsewhere()) is not None:
                    return answer
                time.sleep(_POLL)  # others are at these parts
            left = waiting
        return None

    def _finish(self, finish: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        with self._lock("finish.lock", wait=True) as mine:
            while (answer := self._finished_elsewhere()) is None and not mine:
                time.sleep(_POLL)  # the disk knows no locks, and another process finishes
            if answer is None:
                answer = finish()
                told = {"plan": self.plan, "run": secrets.token_hex(8), "answer": answer}
                atomic_write_text(self._stamp, canonical_json(told))
        return answer

    def _leave(self) -> None:
        """Remove everything, unless another process is still at it."""
        with self._gate():
            for path in self._present.glob("*.lock"):
                with self._lock(path.name, wait=False, owner=-1, folder=self._present) as dead:
                    if not dead:
                        return
            # Not earlier: whoever is here may have counted the parts among those that are done.
            shutil.rmtree(self.folder, ignore_errors=True)

    def _gate(self) -> AbstractContextManager[bool]:
        """One process at a time comes or goes: none begins in a folder that another is just removing."""
        return self._lock("gate.lock", wait=True, folder=self.folder.parent)

    def _attend(
        self,
        part: int,
        is_done: Callable[[int], bool],
        do: Callable[[int], None],
        on_done: Callable[[int], None],
    ) -> bool:
        """See that a part gets done; False where another process is at it."""
        if not is_done(part):
            with self._lock(f"{part}.lock", wait=False, owner=part % self.crew.count) as mine:
                if not mine:
                    return False
                if not is_done(part):
                    if self._finished_elsewhere() is not None:
                        return False
                    do(part)
        on_done(part)
        return True

    def _finished_elsewhere(self) -> dict[str, Any] | None:
        """What another process of this run answered, once it has finished all of it."""
        stamped = self._stamped()
        if stamped is None or stamped == self._seen:
            return None
        return stamped["answer"] if stamped["plan"] == self.plan else None

    def _stamped(self) -> dict[str, Any] | None:
        try:
            value = json.loads(self._stamp.read_text(encoding="utf-8"))
            return value if {"plan", "run", "answer"} <= set(value) else None
        except (OSError, ValueError, TypeError):
            return None

    @contextmanager
    def _lock(self, name: str, wait: bool, owner: int = 0, folder: Path | None = None) -> Iterator[bool]:
        """Hold a lock of the operating system's, which goes with its process, however that dies.

        On a disk that knows no locks, each process keeps to its own share: `owner` is who may work.
        """
        from filelock import FileLock, Timeout

        place = folder or self._locks
        place.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place / name)
        held = True
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            held = False
        except FileNotFoundError:  # the folder went: another process has just finished everything
            held = False
        except (OSError, NotImplementedError) as error:  # older filelocks have the latter for ENOSYS
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS_HERE:
                raise
            logger.warning("the disk of %s knows no locks: each process keeps to its share", self.folder)
            held = owner == self.crew.index
        try:
            yield held
        finally:
            lock.release()


def _rotated(count: int, crew: Crew) -> list[int]:
    """All parts, from this process's own share on: so that processes seldom meet."""
    start = count * crew.index // crew.count
    return [*range(start, count), *range(start)]


def _number(variable: str, default: int) -> int:
    try:
        return int(os.environ.get(variable, default))
    except ValueError:
        return default
