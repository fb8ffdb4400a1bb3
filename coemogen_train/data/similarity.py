"""How well each caption fits its picture: the cosine of their CLIP embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import DataError
from .cache import CacheOptions, ImageEncoder, build_cache
from .prepare import Progress
from .report import printable
from .samples import Sample, TrainingSet, caption_hash

_TEXTS_PER_BATCH = 64


class PairEncoder(ImageEncoder, Protocol):
    """A CLIP with both towers (`base.ClipEncoder` from anything but a vision-only file)."""

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """n sentences -> [n, V] float32, in the space of the image embeddings."""


def captioned(of: TrainingSet) -> list[Sample]:
    """Return the samples that the filter judges: the captioned ones of the train split, sorted by id.

    Pictures held out for measuring are not thinned out, or the measure would be of an easier set.
    """
    return [sample for sample in of.samples("train") if sample.caption]


def score_similarities(
    of: TrainingSet,
    clip: PairEncoder,
    options: CacheOptions = CacheOptions(),  # noqa: B008 - frozen
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Compute rows for similarities.parquet, all of them kept, without writing them.

    Image embeddings come from the set's cache (and are put there); sentences go through CLIP in batches of
    the sorted list, so equal sets give equal numbers. Raises: DataError for pictures as `build_cache`, or
    values not finite.
    """
    samples = captioned(of)
    if not samples:
        return []
    cache = build_cache(of, clip=clip, options=options, progress=progress)
    rows: list[dict[str, Any]] = []
    for start in range(0, len(samples), _TEXTS_PER_BATCH):
        batch = samples[start : start + _TEXTS_PER_BATCH]
        texts = clip.encode_texts([str(sample.caption) for sample in batch])
        images = torch.stack([cache.image_embeds(sample.id) for sample in batch])
        for sample, similarity in zip(batch, cosine(images, texts).tolist(), strict=True):
            rows.append(_row(sample, similarity, clip.fingerprint))
        if progress is not None:
            progress("comparing captions", len(rows), len(samples))
    return rows


def cosine(images: Tensor, texts: Tensor) -> Tensor:
    """Return the cosine of each row of `images` [n, V] with the same row of `texts` [n, V]: [n], float64."""
    first, second = images.cpu().double(), texts.cpu().double()
    return (first * second).sum(dim=1) / (first.norm(dim=1) * second.norm(dim=1))


def _row(sample: Sample, similarity: float, encoder: str) -> dict[str, Any]:
    if similarity != similarity:
        raise DataError(
            f"CLIP gives no similarity for {printable(sample.id)!r} and its caption: look at both."
        )
    return {
        "id": sample.id,
        "sha256": sample.sha256,
        "caption_sha256": caption_hash(str(sample.caption)),
        "emotion": sample.emotion,
        "similarity": similarity,
        "encoder": encoder,
        "kept": True,
    }
