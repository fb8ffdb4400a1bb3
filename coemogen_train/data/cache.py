"""Latents and CLIP features of a set, computed once: what training reads instead of pictures.

A key is the content of the picture (or caption), the weights of the encoder, the transform, the stored type
and the format's version; file names and times are none of it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import DataError
from .buckets import Size, bucket_of
from .cache_building import Builder, Pictures, Task, check_pictures
from .caption_features import TextEncoder, caption_digests, caption_text
from .embeddings import EmbeddingCache, Stores
from .images import quiet_pillow
from .pixels import covering, square, to_pixels
from .prepare import Progress
from .report import printable
from .samples import Sample, TrainingSet
from .shards import ShardStore
from .sharedwork import Crew

__all__ = ["CacheOptions", "EmbeddingCache", "ImageEncoder", "LatentEncoder", "build_cache"]

_DTYPES = {"float16": torch.float16, "float32": torch.float32}
# Small enough that a large set of tiny pictures takes hardly more memory than a small one.
_MEMORY_LIMIT = 8 << 20
_UPRIGHT = "upright RGB, transparency on white"


class LatentEncoder(Protocol):
    """What the cache needs of a base model (`base.BaseModel` has it)."""

    @property
    def vae_fingerprint(self) -> str:
        """Differs whenever the latents of a picture would."""

    @property
    def vae_factor(self) -> int:
        """Pixels per latent along one side."""

    @property
    def resolution(self) -> int:
        """The side of the pictures that the model was trained on, in pixels."""

    def encode_latents(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 3, H, W] in -1..1 -> mean and std of the scaled latents."""


class ImageEncoder(Protocol):
    """What the cache needs of CLIP (`base.ClipEncoder` has it)."""

    @property
    def fingerprint(self) -> str:
        """Differs whenever the embedding of a picture would."""

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """n pictures -> [n, V] float32."""


@dataclass(frozen=True)
class CacheOptions:
    """dtype, caption_dtype: how latents and caption features are stored ("float16", for latents an error far
    below the VAE's own std, or "float32").

    batch_size, caption_batch_size: pictures and captions per encoder call; results differ by about 1e-6 with
    it, so equal bytes need equal sizes.
    workers: decoding threads, 0 = one per core. memory_limit: bytes up to which a store is held in memory.
    check_pictures: compare every picture that is there with the content hash it was prepared with, and refuse
    a set whose pictures changed. Pictures that are gone do not matter while their features are cached.
    share_checks: of a finished cache, each process of a machine reads a share of the bytes to see that they
        are whole, and no process all of them. Who finds a damaged part makes it anew, so the processes must
        meet between this and the first reading.
    """

    dtype: str = "float16"
    batch_size: int = 4
    workers: int = 0
    memory_limit: int = _MEMORY_LIMIT
    check_pictures: bool = True
    caption_dtype: str = "float16"
    caption_batch_size: int = 32
    share_checks: bool = False


def build_cache(
    of: TrainingSet,
    base: LatentEncoder | None = None,
    clip: ImageEncoder | None = None,
    resolution: int | None = None,
    flip: bool = True,
    options: CacheOptions = CacheOptions(),
    progress: Progress | None = None,
    held_out: Sequence[Sample] = (),
    captions: TextEncoder | None = None,
    buckets: Sequence[Size] | None = None,
    crew: Crew | None = None,
) -> EmbeddingCache:
    """Compute what is missing of a set's cache, and open it.

    base: for latents of the train split, whatever the filter says, so that changing it costs nothing; None:
    no latents. clip: for features of every picture; None: no features. resolution: side of the square that
        the VAE sees, in pixels, None for the base model's own. flip: store mirrored latents too.
    held_out: pictures outside the train split whose latents are wanted too, such as those of the validation
        loss; in a store of their own, always square and never mirrored, so that choosing others leaves the
        large one as it is.
    captions: for features of the train split's captions, whatever the filter says; None: none.
    buckets: sizes (`buckets.bucket_sizes`) of which each training picture is brought to the nearest in shape;
        a store per size. None: all are made square.
    crew: who works on it beside this process; None: as the environment says. Any number of processes, of one
        launch or started on their own, share the shards and leave the same bytes as one. An interrupted run
        is continued; who is killed loses the shard in hand.

    Raises: DataError for a resolution that the VAE cannot take, a picture that changed or is gone, values not
    finite.
    """
    for dtype, what in ((options.dtype, "latents"), (options.caption_dtype, "caption features")):
        if dtype not in _DTYPES:
            raise DataError(f"{what} cannot be stored as {dtype!r}: choose one of {', '.join(_DTYPES)}.")
    crew = crew or Crew.from_environment()
    pool_size = options.workers or os.cpu_count() or 1
    with quiet_pillow(), ThreadPoolExecutor(pool_size) as pool:
        if options.check_pictures:
            check_pictures(of.samples(), pool, crew, progress)
        builder, limit = Builder(of, pool, crew, progress, options.share_checks), options.memory_limit
        tasks = _latents(of, base, resolution, flip, options, buckets) if base is not None else []
        latents = tuple(builder.open(task, limit) for task in tasks)
        held = embeds = texts = None
        if base is not None and held_out:
            side = resolution or base.resolution
            task = _latents_task(of, base, (side, side), False, options, "held_out_latents", held_out)
            held = builder.open(task, limit, hold=True)
        if clip is not None:
            embeds = builder.open(_embeds_task(of, clip, options), limit)
        if captions is not None:
            texts = builder.open(_captions_task(of, captions, options), limit)
    return EmbeddingCache(of, Stores(latents, held, embeds, texts, flip and base is not None))


def _latents(
    of: TrainingSet,
    base: LatentEncoder,
    resolution: int | None,
    flip: bool,
    options: CacheOptions,
    buckets: Sequence[Size] | None,
) -> list[Task]:
    """The stores of the train split's latents: one, or one for each bucket that has pictures."""
    samples, side = of.samples("train"), resolution or base.resolution
    if buckets is None:
        return [_latents_task(of, base, (side, side), flip, options, "latents", samples)]
    bucket = bucket_of(samples, buckets)
    return [
        _latents_task(
            of, base, size, flip, options, f"latents_{size[0]}x{size[1]}", samples.masked(bucket == number)
        )
        for number, size in enumerate(buckets)
        if (bucket == number).any()
    ]


def _latents_task(
    of: TrainingSet,
    base: LatentEncoder,
    size: Size,
    flip: bool,
    options: CacheOptions,
    kind: str,
    samples: Sequence[Sample],
) -> Task:
    width, height = size
    for side in size:
        if side < 1 or side % base.vae_factor:
            raise DataError(
                f"the resolution {side} is not a multiple of {base.vae_factor}: choose one that is."
            )
    dtype, squared = _DTYPES[options.dtype], width == height
    shape = f"centre square, Lanczos to {width}" if squared else f"centre, Lanczos to {width} x {height}"
    key = {
        "encoder": base.vae_fingerprint,
        "transform": f"{_UPRIGHT}, {shape}",
        "flip": flip,
        "dtype": options.dtype,
    }
    pictures = Pictures(samples)

    def encode(images: list[Image.Image]) -> dict[str, Tensor]:
        pixels = to_pixels(images)
        views = {"": pixels, "_flipped": pixels.flip(-1)} if flip else {"": pixels}
        values: dict[str, Tensor] = {}
        for end, view in views.items():
            mean, std = base.encode_latents(view)
            values |= {
                f"mean{end}": mean.float().cpu().to(dtype),
                f"std{end}": std.float().cpu().to(dtype),
            }
        return values

    return Task(
        what=f"caching {kind}".replace("_", " "),
        store=ShardStore.plan(of.cache_folder, kind, key, pictures.digests),
        read=pictures.reader(
            lambda image: square(image, width) if squared else covering(image, width, height)
        ),
        encode=encode,
        name=pictures.name,
        batch_size=options.batch_size,
    )


def _embeds_task(of: TrainingSet, clip: ImageEncoder, options: CacheOptions) -> Task:
    key = {"encoder": clip.fingerprint, "transform": _UPRIGHT, "dtype": "float32"}
    pictures = Pictures(of.samples())
    return Task(
        what="caching image embeds",
        store=ShardStore.plan(of.cache_folder, "image_embeds", key, pictures.digests),
        read=pictures.reader(lambda image: image),
        encode=lambda images: {"image_embeds": clip.encode_images(images).float().cpu()},
        name=pictures.name,
        batch_size=options.batch_size,
    )


def _captions_task(of: TrainingSet, encoder: TextEncoder, options: CacheOptions) -> Task:
    key = {"encoder": encoder.fingerprint, "dtype": options.caption_dtype}
    samples, dtype = of.samples("train").captioned(), _DTYPES[options.caption_dtype]
    digests, rows = np.unique(caption_digests(samples), return_index=True)

    def read(place: int) -> str:
        return caption_text(samples[int(rows[place])].caption)

    return Task(
        what="caching captions",
        store=ShardStore.plan(of.cache_folder, "captions", key, digests),
        read=read,
        encode=lambda texts: {name: t.to(dtype) for name, t in encoder.encode_captions(texts).items()},
        name=lambda place: printable(read(place)),
        batch_size=options.caption_batch_size,
    )
