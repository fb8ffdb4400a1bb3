"""Filling the stores of a cache: shard by shard, shared with other processes, decoding ahead of encoding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import DataError
from ..files import sha256_file
from .digests import DigestSet, digests_of
from .images import ImageProblem, load_rgb
from .prepare import Progress
from .report import printable
from .samples import Sample, TrainingSet
from .shard_reader import ShardReader
from .shards import ShardStore
from .sharedwork import Crew, SharedWork

_CHECKED_TOGETHER = 256
_OPENING_TRIES = 5


@dataclass(frozen=True)
class Task:
    """How to fill a store. What is cached is known by its place among the store's sorted digests.

    what: for progress. read: what there is at a place, decoded; called in threads. encode: a batch of that to
    tensors [batch_size, ...]. name: what an error calls it. batch_size: part of what the values follow from,
    in the last bits.
    """

    what: str
    store: ShardStore
    read: Callable[[int], Any]
    encode: Callable[[list[Any]], dict[str, Tensor]]
    name: Callable[[int], str]
    batch_size: int


class Pictures:
    """Samples by content hash: where several have the same content, the first stands for all."""

    def __init__(self, samples: Sequence[Sample]):
        self._samples = samples
        unique, self._rows = np.unique(digests_of(samples), return_index=True)
        self.digests = DigestSet(unique)

    def sample(self, place: int) -> Sample:
        """The sample whose digest stands at `place`."""
        return self._samples[int(self._rows[place])]

    def name(self, place: int) -> str:
        """How a message calls it."""
        return printable(str(self.sample(place).image), None)

    def reader(self, transform: Callable[[Image.Image], Image.Image]) -> Callable[[int], Image.Image]:
        """What decodes the picture at a place, or says in a DataError why it cannot."""

        def read(place: int) -> Image.Image:
            sample = self.sample(place)
            try:
                return transform(load_rgb(sample.image, sample.sha256))
            except ImageProblem as problem:
                raise DataError(
                    f"the picture {self.name(place)} cannot be cached ({problem.detail}): run `prepare` "
                    "again."
                ) from None

        return read


class Builder:
    """Fills the stores of one set with one pool of decoding threads, together with the crew."""

    def __init__(
        self,
        of: TrainingSet,
        pool: ThreadPoolExecutor,
        crew: Crew,
        progress: Progress | None,
        share_checks: bool = False,
    ):
        self._of, self._pool, self._crew, self._progress = of, pool, crew, progress
        self._share = (crew.place, crew.places) if share_checks else (0, 1)
        # The first batch of the shard that probably comes next, decoded while the last one is encoded.
        self._begun: tuple[range, list[Future[Any]]] | None = None

    def open(self, task: Task, memory_limit: int, hold: bool = False) -> ShardReader:
        """Fill the store and open it. hold: read all of it into memory now, since another run that plans
        other members takes these away."""
        for last in (False,) * (_OPENING_TRIES - 1) + (True,):
            self._build(task)
            try:
                reader = ShardReader(task.store, memory_limit)
                if hold:
                    reader.hold()
                return reader
            except (FileNotFoundError, EOFError):  # that other run was quicker
                if last:
                    raise
        raise AssertionError

    def _build(self, task: Task) -> None:
        store, done, told = task.store, 0, np.zeros(len(task.store), dtype=bool)
        sizes = np.diff(store.parts.starts)

        def tell(number: int) -> None:
            nonlocal done
            if not told[number]:
                told[number], done = True, done + int(sizes[number])
                if self._progress is not None:
                    self._progress(task.what, done, len(store.parts.digests))

        # A finished cache is opened without a trace: it may lie on a disk that cannot be written.
        if self._is_finished(store, tell) and not store.has_leftovers:
            return
        work = SharedWork(self._of.work_folder(f"cache-{store.folder.name}"), store.plan_digest, self._crew)
        try:
            work.run(
                len(store),
                store.is_done,
                lambda number: store.write(store.shard(number), self._encoded(task, number)),
                lambda: {"removed": store.tidy()},
                tell,
            )
        finally:
            self._forget()

    def _is_finished(self, store: ShardStore, tell: Callable[[int], None]) -> bool:
        """Whether all shards are there: those of this process's share whole, the others by their headers."""
        place, places = self._share
        for start in range(0, len(store), _CHECKED_TOGETHER):
            numbers = range(start, min(start + _CHECKED_TOGETHER, len(store)))
            others = [number for number in numbers if number % places != place]
            if not all(self._pool.map(store.is_trusted, others)):
                return False
            for number in numbers:
                if number % places == place and not store.is_done(number):
                    return False
                tell(number)
        return True

    def _encoded(self, task: Task, number: int) -> dict[str, Tensor]:
        """The tensors of shard `number`."""
        parts: list[dict[str, Tensor]] = []
        for places, items in self._decoded(task, number):
            values = task.encode(items)
            _check_finite(values, lambda row, places=places: task.name(places[row]))  # type: ignore[misc]
            parts.append(values)
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _decoded(self, task: Task, number: int) -> Iterator[tuple[range, list[Any]]]:
        """Yield the batches of shard `number` while what comes after each is already being decoded."""
        batches, following = _batches(task, number), self._next_batch(task, number)
        if self._begun is not None and self._begun[0] == batches[0]:
            waiting = self._begun[1]
        else:
            self._forget()
            waiting = self._submit(task, batches[0])
        self._begun = None
        for places, upcoming in zip(batches, [*batches[1:], following], strict=True):
            later = self._submit(task, upcoming) if upcoming is not None else []
            if upcoming is not None and upcoming is following:
                self._begun = (following, later)
            yield places, [future.result() for future in waiting]
            waiting = later

    def _next_batch(self, task: Task, number: int) -> range | None:
        """The first batch of the next shard, unless that is there or another process is probably at it."""
        if number + 1 == len(task.store) or task.store.shard(number + 1).path.exists():
            return None
        return _batches(task, number + 1)[0]

    def _submit(self, task: Task, places: range) -> list[Future[Any]]:
        return [self._pool.submit(task.read, place) for place in places]

    def _forget(self) -> None:
        for future in self._begun[1] if self._begun is not None else ():
            future.cancel()
        self._begun = None


def check_pictures(
    samples: Sequence[Sample], pool: ThreadPoolExecutor, crew: Crew, progress: Progress | None
) -> None:
    """Raise DataError when a picture that is there is not the one that was prepared.

    Each process of a crew looks at its share.
    """

    def changed(sample: Sample) -> bool:
        try:
            return sha256_file(sample.image) != sample.sha256
        except OSError:
            return False  # its features may be cached; if not, reading it will say what is wrong

    names = []
    begin, end = (len(samples) * number // crew.count for number in (crew.index, crew.index + 1))
    for start in range(begin, end, _CHECKED_TOGETHER):
        chunk = list(samples[start : min(end, start + _CHECKED_TOGETHER)])
        names += [sample.image for sample, bad in zip(chunk, pool.map(changed, chunk), strict=True) if bad]
        if progress is not None:
            progress("checking pictures", start + len(chunk) - begin, end - begin)
    if names:
        first = printable(str(names[0]), None)
        raise DataError(
            f"{len(names)} pictures changed since `prepare`, the first is {first}: run `prepare` again."
        )


def _batches(task: Task, number: int) -> list[range]:
    """The places of shard `number` in runs of `batch_size`, the last one shorter."""
    begin, end = (int(start) for start in task.store.parts.starts[number : number + 2])
    return [range(start, min(end, start + task.batch_size)) for start in range(begin, end, task.batch_size)]


def _check_finite(values: Mapping[str, Tensor], name: Callable[[int], str]) -> None:
    for tensor in values.values():
        rows = torch.isfinite(tensor.flatten(1)).all(dim=1)
        if not rows.all():
            raise DataError(
                f"the encoder gives values that are not finite for {name(int((~rows).nonzero()[0]))}: load "
                "the model in float32."
            )
