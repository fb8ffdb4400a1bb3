"""The cache of a set, open for reading: what the training loop asks for, by sample id."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import DataError
from .report import printable
from .samples import TrainingSet
from .shards import ShardReader


class EmbeddingCache:
    """Latents of the train split and of what is held out, and CLIP features of all splits, by sample id."""

    def __init__(
        self,
        of: TrainingSet,
        latents: ShardReader | None,
        embeds: ShardReader | None,
        flips: bool,
        held_out: ShardReader | None = None,
    ):
        self._set = of
        self._latents = latents
        self._held_out = held_out
        self._embeds = embeds
        self._hashes = {sample.id: sample.sha256 for sample in of.samples()}
        self.flips = flips

    def latents(self, sample_id: str, flip: bool = False) -> tuple[Tensor, Tensor]:
        """Return (mean, std) of a training picture's scaled latents, mirrored if `flip`: each [C, h, w],
        float32.

        Raises: DataError when the cache holds no latents of it, or none mirrored.
        """
        digest = self._hash_in(self._latents, sample_id, "latents (only the train split has them)")
        if flip and not self.flips:
            raise DataError("the cache was built without mirrored latents: build it with flip.")
        assert self._latents is not None  # noqa: S101 - _hash_in refuses it
        end = "_flipped" if flip else ""
        mean, std = self._latents.row(digest, f"mean{end}"), self._latents.row(digest, f"std{end}")
        # Copies, so that nobody writes through into the cache.
        return mean.to(torch.float32, copy=True), std.to(torch.float32, copy=True)

    def held_out_latents(self, sample_id: str) -> Tensor:
        """Return the mean of a held-out picture's scaled latents: [C, h, w], float32. Raises: DataError."""
        digest = self._hash_in(self._held_out, sample_id, "held-out latents")
        assert self._held_out is not None  # noqa: S101 - _hash_in refuses it
        return self._held_out.row(digest, "mean").to(torch.float32, copy=True)

    def image_embeds(self, sample_id: str) -> Tensor:
        """Return a picture's CLIP embedding, unnormalised: [V], float32. Raises: DataError."""
        digest = self._hash_in(self._embeds, sample_id, "CLIP features")
        assert self._embeds is not None  # noqa: S101 - _hash_in refuses it
        return self._embeds.row(digest, "image_embeds").clone()

    def all_embeds(self, split: str | None, kept_only: bool = True) -> Tensor:
        """Return [n, V]; row i belongs to `set.samples(split, kept_only)[i]`. Raises: DataError if n is 0."""
        samples = self._set.samples(split, kept_only)
        if not samples:
            raise DataError(f"the set {self._set.root} has no pictures in the split {split!r}.")
        return torch.stack([self.image_embeds(sample.id) for sample in samples])

    def _hash_in(self, reader: ShardReader | None, sample_id: str, what: str) -> str:
        digest = self._hashes.get(sample_id)
        if reader is None or digest is None or digest not in reader:
            raise DataError(
                f"the cache holds no {what} of the sample {printable(sample_id)!r}: run `cache` again."
            )
        return digest
