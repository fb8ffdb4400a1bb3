"""The cache of a set, open for reading: what the training loop asks for, by sample id."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError
from .digests import Digests, as_hex, digests_of, text_digest
from .report import printable
from .samples import Sample, TrainingSet
from .shard_reader import ShardReader


@dataclass(frozen=True)
class Stores:
    """The open stores of a cache; what was not asked for is not there.

    latents: of the train split, one per shape. held_out: latents of what is held out. embeds: CLIP features
    of all splits. captions: what the text encoder makes of the captions. flips: whether latents are there
    mirrored, too.
    """

    latents: tuple[ShardReader, ...] = ()
    held_out: ShardReader | None = None
    embeds: ShardReader | None = None
    captions: ShardReader | None = None
    flips: bool = False

    @property
    def all(self) -> list[ShardReader]:
        """Every store that is there."""
        return [*self.latents, *(s for s in (self.held_out, self.embeds, self.captions) if s is not None)]


class EmbeddingCache:
    """Latents of the train split and of what is held out, and CLIP features of all splits, by sample id.

    Of the set it keeps the ids, as an Arrow column, and the content hashes, 32 bytes each; of the cache its
    small stores (`CacheOptions.memory_limit`). What a method returns is the caller's own, and any raises
    DataError when a file of the cache goes while it is in use.
    """

    def __init__(self, of: TrainingSet, stores: Stores):
        self._set = of
        self.stores = stores
        samples = of.samples()
        self._ids = samples.columns("id")["id"].combine_chunks()
        self._digests: Digests = digests_of(samples)

    def latents(self, sample_id: str, flip: bool = False) -> tuple[Tensor, Tensor]:
        """Return (mean, std) of a training picture's scaled latents, mirrored if `flip`: each [C, h, w],
        float32.

        Raises: DataError when the cache holds no latents of it, or none mirrored.
        """
        digest = self._hash(sample_id)
        reader = next((reader for reader in self.stores.latents if digest in reader), None)
        if reader is None:
            raise _absent("latents (only the train split has them)", sample_id)
        if flip and not self.stores.flips:
            raise DataError("the cache was built without mirrored latents: build it with flip.")
        end = "_flipped" if flip else ""
        mean, std = reader.rows(digest, f"mean{end}", f"std{end}")
        return mean.float(), std.float()

    def held_out_latents(self, sample_id: str) -> Tensor:
        """Return the mean of a held-out picture's scaled latents: [C, h, w], float32. Raises: DataError."""
        digest, reader = self._hash(sample_id), self.stores.held_out
        if reader is None or digest not in reader:
            raise _absent("held-out latents", sample_id)
        return reader.rows(digest, "mean")[0].float()

    def image_embeds(self, sample_id: str) -> Tensor:
        """Return a picture's CLIP embedding, unnormalised: [V], float32. Raises: DataError."""
        digest, reader = self._hash(sample_id), self.stores.embeds
        if reader is None or digest not in reader:
            raise _absent("CLIP features", sample_id)
        return reader.rows(digest, "image_embeds")[0]

    def caption_states(self, caption: str, name: str) -> Tensor:
        """Return what the text encoder makes of a caption, float32. Raises: DataError.

        caption: as it is encoded (`caption_features.caption_text`). name: "hidden", for the states [L, W], or
        "pooled", for the one at EOS [P].
        """
        digest, reader = text_digest(caption), self.stores.captions
        if reader is None or digest not in reader:
            raise DataError(
                f"the cache holds no features of the caption {printable(caption)!r}: run `cache` again."
            )
        return reader.rows(digest, name)[0].float()

    def all_embeds(self, split: str | None, kept_only: bool = True) -> Tensor:
        """Return [n, V]; row i belongs to `set.samples(split, kept_only)[i]`. Raises: DataError if n is 0."""
        samples = self._set.samples(split, kept_only)
        if not samples:
            raise DataError(f"the set {self._set.root} has no pictures in the split {split!r}.")
        return self.embeds_of(samples)

    def embeds_of(self, samples: Sequence[Sample]) -> Tensor:
        """Return the CLIP embeddings of some samples, in their order: [n, V], float32. Raises: DataError."""
        digests, reader = self._embeds(samples)
        out = torch.empty(0)
        for which, rows in reader.gather(digests, "image_embeds"):
            self._check_finite(rows, which, samples)
            if not len(out):
                out = torch.empty(len(digests), rows.shape[1])
            out[torch.from_numpy(which)] = rows
        return out

    def mean_embeds(self, samples: Sequence[Sample], labels: NDArray[np.int64], count: int) -> Tensor:
        """Return the mean CLIP embedding of each label, 0 where nothing has it: [count, V], float32.

        labels: [n], below `count`. One shard is in memory at a time; summed in float64 in the order of the
        content hashes, so that equal sets give equal means. Raises: DataError.
        """
        digests, reader = self._embeds(samples)
        sums = torch.empty(0)
        for which, rows in reader.gather(digests, "image_embeds"):
            self._check_finite(rows, which, samples)
            if not len(sums):
                sums = torch.zeros(count, rows.shape[1], dtype=torch.float64)
            sums.index_add_(0, torch.from_numpy(labels[which]), rows.double())
        numbers = torch.from_numpy(np.bincount(labels, minlength=count)).clamp(min=1)
        return (sums / numbers[:, None]).float()

    def _check_finite(self, rows: Tensor, which: NDArray[np.int64], samples: Sequence[Sample]) -> None:
        """One strange number would spread to its emotion's mean and clusters. Raises: DataError."""
        strange = (~torch.isfinite(rows).all(dim=1)).nonzero()
        if len(strange) and self.stores.embeds is not None:
            name = printable(samples[int(which[int(strange[0])])].id)
            folder = printable(str(self.stores.embeds.store.folder), None)
            raise DataError(
                f"the CLIP features of the sample {name!r} are not finite: delete {folder}, run again."
            )

    def _embeds(self, samples: Sequence[Sample]) -> tuple[Digests, ShardReader]:
        digests, reader = digests_of(samples), self.stores.embeds
        places = None if reader is None else reader.store.parts.digests.places(digests)
        if reader is None or places is None or (len(places) and places.min() < 0):
            first = 0 if places is None else int(places.argmin())
            raise _absent("CLIP features", samples[first].id)
        return digests, reader

    def _hash(self, sample_id: str) -> str:
        """The content hash of a sample; "" where the set has no such sample."""
        place = bisect_left(range(len(self._ids)), sample_id, key=lambda row: self._ids[row].as_py())
        if place == len(self._ids) or self._ids[place].as_py() != sample_id:
            return ""
        return as_hex(self._digests[place : place + 1])[0]


def _absent(what: str, sample_id: str) -> DataError:
    return DataError(f"the cache holds no {what} of the sample {printable(sample_id)!r}: run `cache` again.")
