"""Asking a model about pictures within a budget: in batches on this machine, or many at once on a server."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ..captions import CaptionStopped, NoAnswer
from ..errors import CaptionError
from .captioning_tasks import Task, problem_row
from .images import ImageProblem, load_rgb
from .rows import Sample

if TYPE_CHECKING:
    from PIL import Image

Record = Callable[[list[dict[str, Any]]], None]
# Threads that decode pictures while the model works.
_DECODERS = 4
# A server that fails this many pictures one after the other, or as many as it gets at once, is no use.
_FAILURES = 5
_POLL = 0.2


class BudgetSpent(Exception):
    """What was allowed is used up. Its text: pictures, requests or time."""


@dataclass
class Budget:
    """How much may be asked in this run; None: as much as there is. For several threads.

    limit: pictures. max_requests: to a server, with those that it failed. seconds: then nothing new is begun.
    """

    limit: int | None = None
    max_requests: int | None = None
    seconds: float | None = None
    requests: int = 0
    _pictures: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _began: float = field(default_factory=time.monotonic)

    def pictures(self, wanted: int = 1) -> int:
        """Take up to `wanted` pictures off. Raises: BudgetSpent where there is none left, or no time."""
        with self._lock:
            if self.seconds is not None and time.monotonic() - self._began >= self.seconds:
                raise BudgetSpent("time")
            if self.max_requests is not None and self.requests >= self.max_requests:
                raise BudgetSpent("requests")
            allowed = wanted if self.limit is None else min(wanted, self.limit - self._pictures)
            if allowed <= 0:
                raise BudgetSpent("pictures")
            self._pictures += allowed
            return allowed

    def request(self) -> None:
        """Take one request off. Raises: BudgetSpent"""
        with self._lock:
            if self.max_requests is not None and self.requests >= self.max_requests:
                raise BudgetSpent("requests")
            self.requests += 1


class Asker(Protocol):
    """Asks about the pictures of a part."""

    def ask(self, task: Task, samples: Sequence[Sample], wanted: set[str], record: Record) -> None:
        """Ask about those of `samples` whose ids are wanted, and record every answer at once.

        Raises: BudgetSpent, CaptionError; all that was answered by then is recorded.
        """


@dataclass
class BatchAsker:
    """Batches of pictures in their order, each computed whole: its answers depend on its pictures alone."""

    size: int
    budget: Budget

    def ask(self, task: Task, samples: Sequence[Sample], wanted: set[str], record: Record) -> None:
        """As `Asker.ask`."""
        batches = [samples[start : start + self.size] for start in range(0, len(samples), self.size)]
        asked = [batch for batch in batches if any(sample.id in wanted for sample in batch)]
        for batch, pictures in _ahead(asked, task.needs_pictures):
            open_here = [sample.id for sample in batch if sample.id in wanted]
            allowed = set(open_here[: self.budget.pictures(len(open_here))])
            readable = [at for at, picture in enumerate(pictures) if not isinstance(picture, ImageProblem)]
            answers = task.many([batch[at] for at in readable], [pictures[at] for at in readable])
            rows = dict(zip(readable, answers, strict=True))
            for at, picture in enumerate(pictures):
                if isinstance(picture, ImageProblem):
                    rows[at] = problem_row(batch[at], picture.kind, picture.detail)
            record([row for _, row in sorted(rows.items()) if row["id"] in allowed])
            if len(allowed) < len(open_here):
                raise BudgetSpent("pictures")


class ThreadAsker:
    """Several pictures at a time, each recorded as soon as its answer is there."""

    def __init__(self, concurrency: int, budget: Budget):
        self._concurrency = concurrency
        self._budget = budget
        self._lock = threading.Lock()
        self._failures = 0
        self._halted = threading.Event()  # nothing new is begun
        self._broken = threading.Event()  # what is under way is broken off

    def ask(self, task: Task, samples: Sequence[Sample], wanted: set[str], record: Record) -> None:
        """As `Asker.ask`; where this is interrupted, requests under way are left."""
        left = deque(sample for sample in samples if sample.id in wanted)
        count = min(self._concurrency, len(left))
        with ThreadPoolExecutor(max(1, count), thread_name_prefix="caption") as pool:
            workers = [pool.submit(self._work, task, left, record) for _ in range(count)]
            try:
                while wait(workers, _POLL).not_done:
                    pass  # waiting without end would not hear Ctrl-C on Windows
            except BaseException:
                self._halted.set()
                self._broken.set()
                raise
        errors = [error for worker in workers if (error := worker.exception()) is not None]
        if errors:
            # That something is wrong is told before that the budget is used up.
            raise next((error for error in errors if not isinstance(error, BudgetSpent)), errors[0])

    def _work(self, task: Task, left: deque[Sample], record: Record) -> None:
        while not self._halted.is_set():
            try:
                sample = left.popleft()
            except IndexError:
                return
            try:
                self._budget.pictures()
                record([self._answered(task, sample)])
            except CaptionStopped:
                return
            except BaseException:
                self._halted.set()
                raise

    def _answered(self, task: Task, sample: Sample) -> dict[str, Any]:
        picture = _loaded(sample) if task.needs_pictures else None
        if isinstance(picture, ImageProblem):
            return problem_row(sample, picture.kind, picture.detail)
        try:
            row = task.one(sample, picture, self._broken.is_set)
        except NoAnswer as error:
            with self._lock:
                self._failures += 1
                if self._failures >= max(_FAILURES, self._concurrency):
                    raise CaptionError(str(error)) from None
            return problem_row(sample, "unanswered", str(error))
        with self._lock:
            self._failures = 0
        return row


def _loaded(sample: Sample) -> Image.Image | ImageProblem:
    try:
        return load_rgb(sample.image, sample.sha256)
    except ImageProblem as problem:
        return problem


def _ahead(
    batches: Sequence[Sequence[Sample]], with_pictures: bool
) -> Iterator[tuple[Sequence[Sample], list[Any]]]:
    """Each batch with its pictures (RGB, or why there is none), the next decoded meanwhile."""
    if not with_pictures:
        yield from ((batch, [None] * len(batch)) for batch in batches)
        return
    with ThreadPoolExecutor(_DECODERS, thread_name_prefix="decode") as pool:
        coming: deque[list[Future[Any]]] = deque()
        try:
            for number, batch in enumerate(batches):
                for later in batches[number + len(coming) : number + 2]:
                    coming.append([pool.submit(_loaded, sample) for sample in later])
                yield batch, [future.result() for future in coming.popleft()]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
