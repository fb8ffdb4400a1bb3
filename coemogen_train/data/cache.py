"""Latents and CLIP features of a set, computed once: what training reads instead of pictures.

A key is the content of the picture, the weights of the encoder, the transform, the stored type and the
format's version; file names and times are none of it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from ..errors import DataError
from ..files import sha256_file, sweep_parts
from .embeddings import EmbeddingCache
from .images import ImageProblem, load_rgb, quiet_pillow
from .pixels import square, to_pixels
from .prepare import Progress
from .report import printable
from .samples import Sample, TrainingSet
from .shards import Shard, ShardReader, ShardStore, batches

logger = logging.getLogger(__name__)

_DTYPES = {"float16": torch.float16, "float32": torch.float32}
_MEMORY_LIMIT = 1 << 30


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
    """dtype: how latents are stored ("float16", an error far below the VAE's own std, or "float32").

    batch_size: pictures per encoder call; results differ by about 1e-6 with it, so equal bytes need equal
    sizes.
    workers: decoding threads, 0 = one per core. memory_limit: bytes up to which features are held in memory.
    check_pictures: compare every picture that is there with the content hash it was prepared with, and refuse
    a set
        whose pictures changed. Pictures that are gone do not matter while their features are cached.
    """

    dtype: str = "float16"
    batch_size: int = 4
    workers: int = 0
    memory_limit: int = _MEMORY_LIMIT
    check_pictures: bool = True


def build_cache(
    of: TrainingSet,
    base: LatentEncoder | None = None,
    clip: ImageEncoder | None = None,
    resolution: int | None = None,
    flip: bool = True,
    options: CacheOptions = CacheOptions(),
    progress: Progress | None = None,
    held_out: Sequence[Sample] = (),
) -> EmbeddingCache:
    """Compute what is missing of a set's cache, and open it.

    base: for latents of the train split, whatever the filter says, so that changing it costs nothing; None:
    no
        latents. clip: for features of every picture; None: no features. resolution: side of the square that
        the VAE sees, in pixels, None for the base model's own. flip: store mirrored latents too.
    held_out: pictures outside the train split whose latents are wanted too, such as those of the validation
        loss; in a store of their own, never mirrored, so that choosing others leaves the large one as it is.
    An interrupted run is continued shard by shard; the result has the same bytes. One process at a time: the
    others wait for their turn.
    Raises: DataError for a resolution that the VAE cannot take, a picture that changed or is gone, values not
    finite.
    """
    if options.dtype not in _DTYPES:
        raise DataError(f"latents cannot be stored as {options.dtype!r}: choose one of {', '.join(_DTYPES)}.")
    pool_size = options.workers or os.cpu_count() or 1
    with _turn(of.cache_folder), quiet_pillow(), ThreadPoolExecutor(pool_size) as pool:
        if options.check_pictures:
            _check_pictures(of.samples(), pool, progress)
        builder = _Builder(of, options, pool, progress)
        latents = held = embeds = None
        if base is not None:
            side = resolution or base.resolution
            latents = builder.latents(base, side, flip, "latents", of.samples("train"))
            if held_out:
                held = builder.latents(base, side, False, "held_out_latents", held_out)
                held.hold()  # another run may choose other pictures, and take these away
        if clip is not None:
            embeds = builder.embeds(clip)
    return EmbeddingCache(of, latents, embeds, flip and base is not None, held)


@contextmanager
def _turn(cache: Path) -> Iterator[None]:
    """Let one process at a time build a set's cache; on a disk that knows no locks, or is not to be written
    on, take care oneself."""
    from filelock import FileLock, Timeout

    lock = FileLock(cache.parent / ".cache.lock")
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.info("waiting for another process that builds the cache of %s", cache.parent)
            lock.acquire()
    except (OSError, NotImplementedError) as error:
        logger.debug("no lock on %s: %s", cache, error)
    try:
        yield
    finally:
        lock.release()


@dataclass
class _Builder:
    """Builds the stores of one set with one pool of decoding threads."""

    of: TrainingSet
    options: CacheOptions
    pool: ThreadPoolExecutor
    progress: Progress | None

    def latents(
        self, base: LatentEncoder, resolution: int, flip: bool, kind: str, samples: Sequence[Sample]
    ) -> ShardReader:
        if resolution < 1 or resolution % base.vae_factor:
            raise DataError(
                f"the resolution {resolution} is not a multiple of {base.vae_factor}: choose one that is."
            )
        dtype = _DTYPES[self.options.dtype]
        key = {
            "encoder": base.vae_fingerprint,
            "transform": f"upright RGB, transparency on white, centre square, Lanczos to {resolution}",
            "flip": flip,
            "dtype": self.options.dtype,
        }

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

        return self._build(kind, key, samples, lambda image: square(image, resolution), encode)

    def embeds(self, clip: ImageEncoder) -> ShardReader:
        key = {
            "encoder": clip.fingerprint,
            "transform": "upright RGB, transparency on white",
            "dtype": "float32",
        }

        def encode(images: list[Image.Image]) -> dict[str, Tensor]:
            return {"image_embeds": clip.encode_images(images).float().cpu()}

        return self._build("image_embeds", key, self.of.samples(), lambda image: image, encode)

    def _build(
        self,
        kind: str,
        key: Mapping[str, object],
        samples: Sequence[Sample],
        transform: Callable[[Image.Image], Image.Image],
        encode: Callable[[list[Image.Image]], dict[str, Tensor]],
    ) -> ShardReader:
        by_hash = {sample.sha256: sample for sample in samples}
        store = ShardStore.plan(self.of.cache_folder, kind, key, by_hash)
        sweep_parts(store.folder)
        done = 0
        for shard in store.shards:
            if not store.is_whole(shard):
                store.write(shard, self._encode_shard(shard, by_hash, transform, encode))
            done += len(shard.members)
            if self.progress is not None:
                self.progress(f"caching {kind}".replace("_", " "), done, len(by_hash))
        store.remove_unplanned()
        return ShardReader(store, self.options.memory_limit)

    def _encode_shard(
        self,
        shard: Shard,
        by_hash: Mapping[str, Sample],
        transform: Callable[[Image.Image], Image.Image],
        encode: Callable[[list[Image.Image]], dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        def read(digest: str) -> Image.Image:
            sample = by_hash[digest]
            try:
                return transform(load_rgb(sample.image, digest))
            except ImageProblem as problem:
                raise DataError(
                    f"the picture {printable(str(sample.image), None)} cannot be cached ({problem.detail}): "
                    "run `prepare` again."
                ) from None

        parts: list[dict[str, Tensor]] = []
        plan = batches(shard.members, self.options.batch_size)
        for members, images in zip(plan, _ahead(plan, read, self.pool), strict=True):
            values = encode(images)
            _check_finite(values, [by_hash[digest] for digest in members])
            parts.append(values)
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _ahead(
    plan: Iterable[Sequence[str]], read: Callable[[str], Image.Image], pool: ThreadPoolExecutor
) -> Iterator[list[Image.Image]]:
    """Yield the pictures of each batch while those of the next one are already being decoded."""
    waiting: list[Future[Image.Image]] | None = None
    for members in plan:
        following = [pool.submit(read, digest) for digest in members]
        if waiting is not None:
            yield [future.result() for future in waiting]
        waiting = following
    if waiting is not None:
        yield [future.result() for future in waiting]


def _check_finite(values: Mapping[str, Tensor], samples: Sequence[Sample]) -> None:
    for tensor in values.values():
        rows = torch.isfinite(tensor.flatten(1)).all(dim=1)
        if not rows.all():
            sample = samples[int((~rows).nonzero()[0])]
            raise DataError(
                f"the encoder gives values that are not finite for {printable(str(sample.image), None)}: "
                "load the model in float32."
            )


def _check_pictures(samples: Sequence[Sample], pool: ThreadPoolExecutor, progress: Progress | None) -> None:
    """Raise DataError when a picture that is there is not the one that was prepared."""

    def changed(sample: Sample) -> bool:
        try:
            return sha256_file(sample.image) != sample.sha256
        except OSError:
            return False  # its features may be cached; if not, reading it will say what is wrong

    names = []
    for done in range(0, len(samples), 256):
        chunk = samples[done : done + 256]
        names += [sample.image for sample, bad in zip(chunk, pool.map(changed, chunk), strict=True) if bad]
        if progress is not None:
            progress("checking pictures", done + len(chunk), len(samples))
    if names:
        first = printable(str(names[0]), None)
        raise DataError(
            f"{len(names)} pictures changed since `prepare`, the first is {first}: run `prepare` again."
        )
