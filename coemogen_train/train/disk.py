"""Room on the disk: what a set's cache holds already, what a run will write, and whether it fits."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from ..data.digests import Digests, DigestSet, from_hex
from ..data.shards import Contents, read_contents
from ..errors import ConfigError
from .config import TrainConfig

_GIB = 2**30
_HALF, _SINGLE = 2, 4  # bytes per number
_PREVIEW_BYTES = 256 * 256 * 2  # a cell of a sheet, as PNG
_ASKERS, _ASKED_TOGETHER = 16, 256
_SMALL_FILES = 8 << 20  # history, settings, validation: generous


@dataclass(frozen=True)
class CacheStock:
    """Content hashes of what a cache holds: latents of these sizes and mirroring, CLIP features, captions.

    Which encoder made them cannot be told without its weights: what is there is taken to be of this run's.
    """

    latents: DigestSet = field(default_factory=DigestSet)
    embeds: DigestSet = field(default_factory=DigestSet)
    captions: DigestSet = field(default_factory=DigestSet)


@dataclass(frozen=True)
class DiskPart:
    """Something that a run writes: what, where, and how many bytes at most."""

    what: str
    folder: Path
    size: int


def cache_stock(
    cache: Path, latent_sizes: Collection[tuple[int, int]], flip: bool, buckets: bool
) -> CacheStock:
    """Look what a cache folder holds; reads the shards' headers only.

    latent_sizes: height and width of the latents that are wanted. flip: whether mirrored ones of training
    pictures are wanted. buckets: whether training pictures are wanted in the shape nearest to their own.
    """
    found: dict[str, list[Digests]] = {"latents": [], "embeds": [], "captions": []}
    for path, contents in _contents(cache):
        if contents is None:
            continue  # damaged, and so redone
        members, shapes = contents
        held_out = path.parent.name.startswith("held_out")
        if "image_embeds" in shapes:
            found["embeds"].append(from_hex(members))
        elif "hidden" in shapes:
            found["captions"].append(from_hex(members))
        elif (
            shapes.get("mean", ())[-2:] in latent_sizes
            and (held_out or "mean_flipped" in shapes or not flip)
            and (held_out or path.parent.name.startswith("latents_") == buckets)
        ):
            found["latents"].append(from_hex(members))
    return CacheStock(**{what: DigestSet(np.concatenate(all_)) for what, all_ in found.items() if all_})


def _contents(cache: Path) -> Iterator[tuple[Path, Contents | None]]:
    """Every shard of a cache with what its header says; a network drive is asked for many at once."""
    paths = cache.glob("*/*.safetensors")
    with ThreadPoolExecutor(_ASKERS) as pool:
        while together := list(islice(paths, _ASKED_TOGETHER)):
            yield from zip(together, pool.map(read_contents, together), strict=True)


def disk_needed(
    config: TrainConfig,
    *,
    trainable_bytes: int,
    gaussian_bytes: int,
    num_emotions: int,
    cache: Path,
    missing_latents: int,
    missing_held_out: int,
    missing_embeds: int,
    missing_captions: int,
    latent_numbers: int,
    vision_width: int,
    caption_numbers: int,
) -> list[DiskPart]:
    """Add up what a run will write, rather too much than too little.

    Arguments:
        trainable_bytes: all trained weights in float32. gaussian_bytes: the clusters in an adapter file.
        cache: the set's cache folder. missing_*: pictures that it does not hold yet.
        latent_numbers: numbers in one latent, C x h x w; in a bucket there are no more. vision_width: V.
        caption_numbers: numbers in the features of a caption, (L + 1) x W.
    """
    latent = 2 * latent_numbers * _HALF  # mean and standard deviation
    caching = missing_latents * latent * (2 if config.flip else 1) + missing_held_out * latent
    caching += missing_embeds * vision_width * _SINGLE
    caching += missing_captions * caption_numbers * (_SINGLE if config.cache_captions == "float32" else _HALF)
    states = 4 if config.ema_decay else 3  # weights, two moments, averaged weights
    checkpoints = (
        (config.keep_checkpoints + 1) * states * trainable_bytes
    )  # the new one before the oldest goes
    there = sum(file.stat().st_size for file in (config.out / "checkpoints").rglob("*") if file.is_file())
    sheets = config.steps // config.preview_every if config.preview_every else 0
    previews = sheets * num_emotions * config.preview_columns * _PREVIEW_BYTES
    return [
        DiskPart("cache", cache, caching),
        DiskPart("checkpoints", config.out, max(0, checkpoints - there) + _SMALL_FILES),
        DiskPart("adapter", config.out, 2 * (trainable_bytes + gaussian_bytes)),  # a part file beside it
        DiskPart("previews", config.out, previews),
    ]


def free_bytes(folder: Path) -> int:
    """Give what is free on the file system that `folder` is on, or will be."""
    return shutil.disk_usage(nearest_existing(folder)).free


def check_disk(parts: Sequence[DiskPart]) -> None:
    """Refuse to begin what would fill a disk; cache and run may be on one file system or on two.

    Raises:
        ConfigError: with what is needed and what is free.
    """
    systems: dict[int, list[DiskPart]] = {}
    for part in parts:
        systems.setdefault(nearest_existing(part.folder).stat().st_dev, []).append(part)
    for together in systems.values():
        needed, free = sum(part.size for part in together), free_bytes(together[0].folder)
        if needed > free:
            told = ", ".join(f"{part.what} {readable_size(part.size)}" for part in together if part.size)
            raise ConfigError(
                f"{together[0].folder}: the run needs about {readable_size(needed)} on this disk ({told}), "
                f"and {readable_size(free)} are free: make room, or move the set or --out to another disk."
            )


def nearest_existing(folder: Path) -> Path:
    """Give `folder`, or the nearest of its parents that is there."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def readable_size(size: float) -> str:
    """Write a number of bytes as people read it: 3.4 GiB, 120 MiB."""
    if size >= _GIB / 2:
        return f"{size / _GIB:.1f} GiB"
    return f"{size / 2**20:.0f} MiB" if size >= 2**20 else f"{size / 2**10:.0f} KiB"
