"""What training reads, without what it computes: `python -m benchmarks.data_reading cache|read SET`.

`cache` fills a set's cache through stand-ins that cost nothing, with features as wide as CLIP ViT-L/14's:
what is left is decoding, dividing into shards and writing. `read` opens that cache as `train` does and makes
an epoch's batches, every kept training sample once where emotions are even, and no U-Net sees them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from coemogen_train.adapter.condition import prompt_ids
from coemogen_train.base.load import load_base
from coemogen_train.data import TrainingSet
from coemogen_train.data.cache import EmbeddingCache, build_cache
from coemogen_train.train.batches import BatchMaker, Draws
from coemogen_train.train.items import TrainingItems

_BATCH, _TOKENS, _WIDTH = 8, 4, 768


class StandInBase:
    """Latents as Stable Diffusion has them, four channels, an eighth of the side; from pooling alone."""

    vae_fingerprint, vae_factor, resolution = "stand-in", 8, 64

    def encode_latents(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        pooled = torch.nn.functional.avg_pool2d(pixels, 8)
        mean = torch.cat([pooled, pooled.mean(1, keepdim=True)], dim=1)
        return mean, mean.abs() * 0.1 + 0.01


class StandInClip:
    """Features [n, 768] from a picture's colours at 16 x 16."""

    fingerprint = "stand-in"

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        rows = [np.asarray(image.resize((16, 16)), dtype=np.float32).reshape(-1) for image in images]
        return torch.from_numpy(np.stack(rows)) / 255


def open_cache(of: TrainingSet) -> EmbeddingCache:
    """Build what is missing, and open it."""
    return build_cache(of, StandInBase(), StandInClip(), flip=True)


def read_epoch(of: TrainingSet) -> dict[str, Any]:
    """Seconds until the first batch could be made, and for all of an epoch: by the clock and of computing."""
    base = load_base("toy", "cpu")
    started, computed = time.perf_counter(), time.process_time()
    cache = open_cache(of)
    samples = of.samples("train", kept_only=True).captioned()
    items = TrainingItems(samples, of.taxonomy)
    maker = BatchMaker(
        items,
        items.labels,
        _BATCH,
        Draws(seed=0, flip=True, content_prompts=0.3),
        cache.latents,
        cache.image_embeds,
        cache.mean_embeds(samples, items.labels, of.taxonomy.num_emotions),
        lambda text: prompt_ids(base.tokenizer, text, _TOKENS, base.max_length),
    )
    opened, ready = time.perf_counter(), time.process_time()
    steps = len(items) // _BATCH
    total = 0.0
    for step in range(steps):
        batch = maker.batch(step, range(_BATCH))
        total += float(batch.latents.mean()) + float(batch.image_embeds.mean())
    return {
        "samples": steps * _BATCH,
        "opening": opened - started,
        "reading": time.perf_counter() - opened,
        "opening_cpu": ready - computed,
        "reading_cpu": time.process_time() - ready,
        "mean": total / max(steps, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=("cache", "read"))
    parser.add_argument("set", type=Path)
    arguments = parser.parse_args()
    of = TrainingSet.open(arguments.set)
    if arguments.task == "cache":
        open_cache(of)
        print(json.dumps({"pictures": len(of.samples())}))
    else:
        print(json.dumps(read_epoch(of)))


if __name__ == "__main__":
    main()
