"""The parts of a captioning: groups of pictures by content, the same for all who work and after any stop."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..files import canonical_json
from .captioning_jobs import Job, Standing, job_to_dict
from .captioning_store import standings
from .digests import DigestSet, digests_of
from .rows import Sample
from .samples import TrainingSet
from .shards import Parts

# Pictures in a part, by how many the set has: so that several processes find enough parts, and few files
# lie about. Stepwise, so that a few new pictures seldom change all parts.
_SIZES = ((2_000, 32), (30_000, 128))
_LARGEST = 512
_DIGEST = 32  # bytes


@dataclass(frozen=True)
class Part:
    """members: row numbers of the set's samples, in the order in which they are asked about. is_open: [n]
    bool, those that had no answer of this plan when this process began. name: of its files."""

    name: str
    members: np.ndarray
    is_open: np.ndarray

    def samples(self, of: TrainingSet) -> list[Sample]:
        """Its pictures."""
        rows = of.samples()
        mask = np.zeros(len(rows), dtype=bool)
        mask[self.members] = True
        found = dict(zip(np.flatnonzero(mask).tolist(), rows.masked(mask), strict=True))
        return [found[member] for member in self.members.tolist()]


@dataclass(frozen=True)
class Plan:
    """digest: of all that the answers depend on. kept: pictures that had what the job gives already."""

    parts: tuple[Part, ...]
    digest: str
    kept: int

    @property
    def open(self) -> int:
        """How many pictures were without an answer when this began."""
        return sum(int(part.is_open.sum()) for part in self.parts)


def make_plan(of: TrainingSet, job: Job) -> Plan:
    """Look through the set for what there is to do."""
    total = len(of.samples())
    involved, is_open = np.zeros(total, dtype=bool), np.zeros(total, dtype=bool)
    kept = 0
    digests = bytearray()
    for index, (sample, row) in enumerate(standings(of)):
        standing = job.standing(sample, row)
        involved[index] = standing in (Standing.OPEN, Standing.DONE)
        is_open[index] = standing is Standing.OPEN
        kept += standing in (Standing.KEPT, Standing.DONE)
        # What a part is known by: the pictures, and what the model is told of them.
        digests += hashlib.sha256(canonical_json(sample).encode("utf-8")).digest()
    key = canonical_json(job_to_dict(job))
    parts = []
    for members in _groups(of, total):
        chosen = members[involved[members]]
        if len(chosen):
            told = b"".join(digests[_DIGEST * member : _DIGEST * (member + 1)] for member in chosen)
            name = hashlib.sha256(key.encode("utf-8") + told).hexdigest()[:20]
            parts.append(Part(name, chosen, is_open[chosen]))
    whole = hashlib.sha256((key + "".join(part.name for part in parts)).encode("utf-8"))
    return Plan(tuple(parts), whole.hexdigest(), kept)


def _groups(of: TrainingSet, total: int) -> Iterator[np.ndarray]:
    """Row numbers of all the set's samples, a group at a time, by their content."""
    digests = digests_of(of.samples())
    size = next((size for below, size in _SIZES if total < below), _LARGEST)
    parts, order = Parts(DigestSet(digests), size), np.argsort(digests, kind="stable")
    numbers = parts.part_of(parts.digests.places(digests[order]))
    yield from np.split(order, np.flatnonzero(np.diff(numbers)) + 1)
