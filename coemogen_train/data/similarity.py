"""How well each caption fits its picture: the cosine of their CLIP embeddings."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..files import atomic_path
from .cache import CacheOptions, ImageEncoder, build_cache
from .embeddings import EmbeddingCache
from .pairs import Pairs
from .prepare import Progress
from .report import printable
from .samples import TrainingSet
from .shards import partition
from .sharedwork import Crew

_TEXTS_PER_BATCH = 64
FORMAT_VERSION = 1


class PairEncoder(ImageEncoder, Protocol):
    """A CLIP with both towers (`base.ClipEncoder` from anything but a vision-only file)."""

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """n sentences -> [n, V] float32, in the space of the image embeddings."""


def fingerprint(clip: PairEncoder) -> str:
    """What a similarity is recorded as being by: of both halves, where the image half has one of its own."""
    return getattr(clip, "pair_fingerprint", None) or clip.fingerprint


class ScoreParts:
    """The similarities of a set's pairs, computed and stored in parts, in the set's cache.

    A part is the pairs of pictures whose content hash begins with the same bits, and its texts go through
    CLIP in batches of that part: so equal sets give equal numbers, whoever computes which part. A part is
    known by its pairs and the CLIP, so that one caption more touches one part.
    """

    def __init__(
        self,
        pairs: Pairs,
        clip: PairEncoder,
        options: CacheOptions,
        progress: Progress | None = None,
        crew: Crew | None = None,
    ):
        self._pairs, self._clip = pairs, clip
        self._options, self._progress, self._crew = options, progress, crew
        # Rows are sorted by id, so equal pictures, should there be any, stay in that order.
        self._order = np.argsort(pairs.pictures, kind="stable")
        ordered = pairs.pictures[self._order]
        groups = partition(digest.decode("ascii") for digest in ordered.tolist())
        lasts = np.array([group[-1] for group in groups], dtype=ordered.dtype)
        self._ends = [0, *np.searchsorted(ordered, lasts, side="right").tolist()]
        key = hashlib.sha256(f"similarity {FORMAT_VERSION} {fingerprint(clip)}".encode()).hexdigest()
        self.folder = pairs.of.cache_folder / f"similarities-{key[:16]}"
        self._names = [self._name(number) for number in range(len(self))]
        self._cache: EmbeddingCache | None = None

    def __len__(self) -> int:
        return len(self._ends) - 1

    def size(self, number: int) -> int:
        """How many pairs a part holds."""
        return self._ends[number + 1] - self._ends[number]

    def is_done(self, number: int) -> bool:
        """Whether a part is there and whole."""
        return self._read(number) is not None

    def do(self, number: int) -> None:
        """Compute a part. Raises: DataError for pictures as `build_cache`, or values that are not finite."""
        cache = self._embeddings()
        members = self._members(number)
        mask = np.zeros(len(self._pairs), dtype=bool)
        mask[members] = True
        rows = self._pairs.rows.masked(mask).columns("id", "caption").to_pylist()  # in the order of ids
        place = {int(row): at for at, row in enumerate(np.sort(members))}
        ordered = [rows[place[int(row)]] for row in members]
        scores = []
        for start in range(0, len(ordered), _TEXTS_PER_BATCH):
            batch = ordered[start : start + _TEXTS_PER_BATCH]
            texts = self._clip.encode_texts([row["caption"] for row in batch])
            images = torch.stack([cache.image_embeds(row["id"]) for row in batch])
            scores.append(cosine(images, texts).numpy())
        values = np.concatenate(scores)
        if not np.isfinite(values).all():
            first = ordered[int(np.flatnonzero(~np.isfinite(values))[0])]["id"]
            raise DataError(
                f"CLIP gives no similarity for {printable(first)!r} and its caption: look at both."
            )
        with atomic_path(self.folder / self._names[number]) as part:
            np.save(part, values.astype("<f8"), allow_pickle=False)

    def collect(self) -> np.ndarray:
        """All similarities, [n] float64 in the order of the pairs; parts of other sets of pairs are
        deleted."""
        found = np.empty(len(self._pairs))
        for number in range(len(self)):
            values = self._read(number)
            if values is None:
                raise DataError(
                    f"{self.folder / self._names[number]} went while it was needed: run it again."
                )
            found[self._members(number)] = values
        planned = set(self._names)
        for path in self.folder.glob("*.npy"):
            if path.name not in planned:
                path.unlink(missing_ok=True)
        return found

    def _embeddings(self) -> EmbeddingCache:
        """The embeddings of the set's pictures, computed when the first part needs them."""
        if self._cache is None:
            self._clip.encode_texts(["a"])  # a CLIP without its text half is to be told before the long work
            # Mapped, not held in memory: each is looked at once.
            mapped = replace(self._options, memory_limit=0)
            self._cache = build_cache(
                self._pairs.of, clip=self._clip, options=mapped, progress=self._progress, crew=self._crew
            )
        return self._cache

    def _members(self, number: int) -> np.ndarray:
        """The rows of a part, in the order of the pictures' hashes."""
        return self._order[self._ends[number] : self._ends[number + 1]]

    def _name(self, number: int) -> str:
        members = self._members(number)
        digest = hashlib.sha256(self._pairs.pictures[members].tobytes())
        digest.update(self._pairs.captions[members].tobytes())
        return f"{number + 1:0{len(str(len(self)))}d}-of-{len(self)}-{digest.hexdigest()[:16]}.npy"

    def _read(self, number: int) -> np.ndarray | None:
        try:
            values = np.load(self.folder / self._names[number], allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        whole = (
            values.shape == (self.size(number),) and values.dtype == np.float64 and np.isfinite(values).all()
        )
        return values if whole else None


def cosine(images: Tensor, texts: Tensor) -> Tensor:
    """Return the cosine of each row of `images` [n, V] with the same row of `texts` [n, V]: [n], float64."""
    first, second = images.cpu().double(), texts.cpu().double()
    return (first * second).sum(dim=1) / (first.norm(dim=1) * second.norm(dim=1))


def score_similarities(
    of: TrainingSet,
    clip: PairEncoder,
    options: CacheOptions = CacheOptions(),  # noqa: B008 - frozen
    progress: Progress | None = None,
) -> np.ndarray:
    """The similarities of a set's captioned training samples, [n] float64 in the order of their ids.

    They are kept in the set's cache; no verdict is made. Raises: DataError as `ScoreParts.do`, or where
    nothing is captioned.
    """
    parts = ScoreParts(Pairs.read(of), clip, options, progress)
    for number in range(len(parts)):
        if not parts.is_done(number):
            parts.do(number)
    return parts.collect()
