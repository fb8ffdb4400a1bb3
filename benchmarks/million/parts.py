"""What a process of a training does before its first step, part by part: `python -m benchmarks.million.parts
ready|fit SET`.

`ready` goes the way to the first batch on a set that `benchmarks.million.set` made, and makes some. `fit`
fits the Gaussian clusters, as rank 0 does at the end. Each prints one JSON object: by part its seconds,
seconds of computing, the memory it took at most, and the memory that stayed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.data_reading import StandInBase, StandInClip
from benchmarks.million.set import SIDE
from coemogen_train.adapter.condition import prompt_ids
from coemogen_train.adapter.gaussian_fit import fit_gaussians
from coemogen_train.base.load import load_base
from coemogen_train.data import CacheOptions, EmbeddingCache, TrainingSet, build_cache
from coemogen_train.train.batches import BalancedOrder, BatchMaker, Draws
from coemogen_train.train.config import load_config
from coemogen_train.train.items import TrainingItems
from coemogen_train.train.pictures import to_fit_on
from coemogen_train.train.start import Start, begin

_MIB = 2**20
_DRAWS, _BATCHES, _BATCH, _TOKENS = 1000, 64, 8, 4


class Parts:
    """Figures of one part after the other, in this process."""

    def __init__(self) -> None:
        self.told: dict[str, dict[str, float]] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure what is done within."""
        _forget_peak()
        started, computed = time.perf_counter(), time.process_time()
        yield
        self.told[name] = {
            "seconds": time.perf_counter() - started,
            "cpu": time.process_time() - computed,
            "peak_mib": _peak() / _MIB,
            "stays_mib": psutil.Process().memory_info().rss / _MIB,
        }
        print(f"  {name}: {self.told[name]}", file=sys.stderr, flush=True)


def start_of(folder: Path) -> Start:
    """What `train` reads of the set, with the paper's settings but for the size of the stand-in latents."""
    told = [f"set={folder}", f"out={folder / 'run'}", f"resolution={SIDE}", "validate_every=0"]
    return begin(load_config("paper", told))


def opened(start: Start) -> EmbeddingCache:
    """The cache as a training opens it, but for the pictures, which are not there to be looked at."""
    options = CacheOptions(check_pictures=False, share_checks=True)
    return build_cache(start.training_set, StandInBase(), StandInClip(), flip=True, options=options)


def ready(folder: Path) -> dict[str, Any]:
    """All that a process holds when it makes its first batch."""
    parts, base = Parts(), load_base("toy", "cpu")  # of it the tokenizer alone is used
    with parts.part("nothing yet"):
        pass
    with parts.part("open the set"):
        TrainingSet.open(folder).samples()
    with parts.part("check the run"):
        start = start_of(folder)
    with parts.part("fingerprint"):
        fingerprint = start.fingerprint
    forget_pages(folder)
    with parts.part("open the cache, alone"):
        opened(start)
    forget_pages(folder)
    with parts.part("open the cache, one of 8"), _neighbours(8):
        cache = opened(start)
    with parts.part("items"):
        items = TrainingItems(start.samples, start.taxonomy)
    with parts.part("first draw"):
        order = BalancedOrder(items.labels, start.taxonomy.num_emotions, seed=0)
        order.index(0)
    with parts.part("1000 draws in a row"):
        for draw in range(_DRAWS):
            order.index(draw)
    places = random.Random(0)
    with parts.part("1000 draws anywhere"):
        for _ in range(_DRAWS):
            order.index(places.randrange(64 * 10**6))
    with parts.part("means of v"):
        means = cache.mean_embeds(start.samples, items.labels, start.taxonomy.num_emotions)
    with parts.part("batch maker"):
        maker = BatchMaker(
            items,
            items.labels,
            _BATCH,
            Draws(seed=0, flip=True, content_prompts=0.3),
            cache.latents,
            cache.image_embeds,
            means,
            lambda text: prompt_ids(base.tokenizer, text, _TOKENS, base.max_length),
        )
        maker.batch(0, range(_BATCH))
    forget_pages(folder)
    for name in ("64 batches of 8, from the disk", "64 batches of 8, again"):
        with parts.part(name):
            for step in range(_BATCHES):
                maker.batch(step, range(_BATCH))
    return {"parts": parts.told, "pictures": len(items), "fingerprint": fingerprint}


def fit(folder: Path, components: str) -> dict[str, Any]:
    """The clusters of v, as `Run.gaussians` fits them."""
    parts, start = Parts(), start_of(folder)
    cache = opened(start)
    with parts.part("nothing yet"):
        pass
    with parts.part(f"Gaussian fit, {components}"):
        samples = to_fit_on(start.samples)
        labels = TrainingItems(samples, start.taxonomy).labels
        import torch

        fit_gaussians(
            cache.embeds_of(samples),
            torch.from_numpy(labels),
            start.taxonomy.num_emotions,
            components="auto" if components == "auto" else int(components),
        )
    return {"parts": parts.told, "pictures": len(samples)}


def forget_pages(folder: Path) -> None:
    """Have the system drop what it keeps of the cache in memory, where it can be asked to."""
    if hasattr(os, "posix_fadvise"):
        for path in folder.glob("cache/*/*.safetensors"):
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def _neighbours(count: int) -> Iterator[None]:
    """As the first of some processes of one machine, as `accelerate launch` tells it."""
    os.environ.update(LOCAL_RANK="0", LOCAL_WORLD_SIZE=str(count))
    try:
        yield
    finally:
        del os.environ["LOCAL_RANK"], os.environ["LOCAL_WORLD_SIZE"]


def _forget_peak() -> None:
    """Have the system measure the peak of memory anew; where it cannot, all parts so far count."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak() -> float:
    """The resident memory at most, in bytes."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return 1024.0 * int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError, ValueError):
        memory = psutil.Process().memory_info()
        return float(getattr(memory, "peak_wset", memory.rss))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=("ready", "fit"))
    parser.add_argument("set", type=Path)
    parser.add_argument("--components", default="1")
    chosen = parser.parse_args()
    told = ready(chosen.set) if chosen.task == "ready" else fit(chosen.set, chosen.components)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
