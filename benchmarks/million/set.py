"""A set of millions of rows without pictures, and the cache that a training would find beside it.

Tables and shards are written by the product's own writers, under the names that `prepare` and `cache` give
them; what they hold is made up. Latents are of 64 pixels a side, 2 KiB a picture instead of 128 KiB;
embeddings are as wide as CLIP ViT-L/14's, in six stories around the place of each emotion. 3.3 million rows
take 17 GB, and 33,000 files in each of two folders.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.data_reading import StandInBase, StandInClip
from benchmarks.data_sets import write_pictures
from benchmarks.measuring.answer import progress
from benchmarks.plan import SHARES
from coemogen_train import files
from coemogen_train.data import TrainingSet, cache, prepare
from coemogen_train.data.cache_building import Pictures
from coemogen_train.data.prepare import PrepareOptions
from coemogen_train.data.samples import SetInfo, create_set
from coemogen_train.data.shards import ShardStore
from coemogen_train.data.splits import SplitRule
from coemogen_train.emotions import MIKELS
from coemogen_train.train.items import labels_of

SIDE, WIDTH = 64, 768
_STORIES = 6
_TOLD_EVERY = 4096  # shards
_ATTRIBUTES = '{"brightness":"0.4","colorfulness":"0.7","facial_expression":"happy","human_action":"dancing"}'


def make_set(root: Path, rows: int) -> TrainingSet:
    """Write the tables, if they are not there: a caption for every row, `prepare`'s own splits."""
    if not (root / "set.json").exists():
        progress(f"making a set of {rows} rows in {root}")
        info = SetInfo(MIKELS, "CC-BY-NC-4.0", "made for this benchmark", "images", None, {})
        create_set(root, info, _rows(rows), _captions(rows))
    return TrainingSet.open(root)


def fill_cache(of: TrainingSet) -> None:
    """Write the shards of latents and of embeddings that are not there yet."""
    files._flush_file = files._flush_folder = lambda _path: None  # what is lost here is made again
    base, clip, options = StandInBase(), StandInClip(), cache.CacheOptions()
    latents = cache._latents(of, base, SIDE, True, options, None)[0].store
    block = torch.randn(1024, 4, SIDE // 8, SIDE // 8).half()
    names = ("mean", "std", "mean_flipped", "std_flipped")
    _fill(latents, lambda number, count: {name: block[:count].clone() for name in names})

    embeds = cache._embeds_task(of, clip, options).store
    samples = of.samples()
    pictures = Pictures(samples)  # in the order of their contents, as the shards are
    labels = labels_of(samples, of.taxonomy)[pictures._rows]
    fixed = np.random.default_rng(0)
    places = fixed.normal(size=(len(MIKELS.names), 1, WIDTH)) + 0.7 * fixed.normal(
        size=(len(MIKELS.names), _STORIES, WIDTH)
    )
    places = places.astype(np.float32)

    def features(number: int, count: int) -> dict[str, Tensor]:
        rng, start = np.random.default_rng(number), embeds.parts.starts[number]
        stories = rng.integers(_STORIES, size=count)
        noise = rng.standard_normal((count, WIDTH), dtype=np.float32)
        return {"image_embeds": torch.from_numpy(places[labels[start : start + count], stories] + noise)}

    _fill(embeds, features)


class _BaseOf512(StandInBase):
    resolution = 512


class _Text:
    """States of the size that Stable Diffusion 1.5's text encoder gives."""

    fingerprint = "stand-in"

    def encode_captions(self, texts: Sequence[str]) -> dict[str, Tensor]:
        return {"hidden": torch.zeros(len(texts), 77, WIDTH), "pooled": torch.zeros(len(texts), WIDTH)}


def bytes_per_picture(folder: Path, pictures: int = 512) -> dict[str, float]:
    """Make caches of some pictures at 512 pixels, and tell how long their files are by what is in them; a
    picture of the training split has all of it."""
    told = {}
    for flip, name in ((True, "latents, mirrored ones too"), (False, "latents")):
        root = folder / name
        prepare(write_pictures(folder / "pictures", pictures), root, PrepareOptions(splits=SplitRule(0, 0)))
        of = TrainingSet.open(root)
        made = cache.build_cache(of, _BaseOf512(), StandInClip(), flip=flip, captions=_Text())
        count = len(of.samples())
        told[name] = made.stores.latents[0].size / count
    [embeds, captions] = [store.size for store in made.stores.all[1:]]
    return told | {"embeddings": embeds / count, "captions as states": captions / count}


def _fill(store: ShardStore, values: Any) -> None:
    for number, shard in enumerate(store.shards):
        if number % _TOLD_EVERY == 0:
            progress(f"{store.kind}: shard {number} of {len(store)}")
        if not shard.path.exists():
            store.write(shard, values(number, len(shard.members)))


def _keys(rows: int) -> Iterator[tuple[str, str, str]]:
    """(id, emotion, content hash) of every row, sorted by id; emotions as uneven as in `benchmarks.plan`."""
    counts = [round(rows * share) for share in SHARES]
    counts[0] += rows - sum(counts)
    for emotion, count in sorted(zip(MIKELS.names, counts, strict=True)):
        for number in range(count):
            key = f"{emotion}_{number:07d}"
            yield key, emotion, hashlib.sha256(key.encode()).hexdigest()


def _rows(rows: int) -> Iterator[dict[str, Any]]:
    rule = SplitRule()
    for key, emotion, digest in _keys(rows):
        yield {
            "id": key,
            "image": f"{emotion}/{key}.jpg",
            "emotion": emotion,
            "split": rule.split_of(digest),
            "sha256": digest,
            "width": 1024,
            "height": 683,
            "scene": "street",
            "objects": ["tree", "lamp"],
            "attributes": _ATTRIBUTES,
        }


def _captions(rows: int) -> Iterator[tuple[str, str, str]]:
    for number, (key, _, digest) in enumerate(_keys(rows)):
        yield (
            key,
            digest,
            f"a lamp shines on picture number {number} in a wet street where a few people in long coats walk "
            "home under golden trees, and the warm light on the stones makes the evening feel calm and wide",
        )
