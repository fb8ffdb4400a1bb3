"""The base model's pretraining pictures and captions, drawn once and kept as arrays."""

from __future__ import annotations

import json
import random
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from ..captions import sample_pretraining_pair
from ..scenes import draw_scene

CHUNK = 2000


def _draw_chunk(task: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
    seed, chunk = task
    rng = random.Random(f"pretraining {seed} {chunk}")
    pairs = [sample_pretraining_pair(rng) for _ in range(CHUNK)]
    pictures = np.stack([np.asarray(draw_scene(scene, rng)) for scene, _ in pairs])
    return pictures, [caption for _, caption in pairs]


def build_corpus(folder: Path, count: int, seed: int, workers: int = 2) -> tuple[np.ndarray, list[str]]:
    """Pictures [count, 64, 64, 3] uint8 (memory-mapped) and a caption each; drawn on the first call, then
    read.
    """
    pictures_file, captions_file = folder / "pictures.npy", folder / "captions.json"
    if not captions_file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        tasks = [(seed, chunk) for chunk in range(-(-count // CHUNK))]
        with get_context("spawn").Pool(workers) as pool:
            chunks = pool.map(_draw_chunk, tasks)
        np.save(pictures_file, np.concatenate([pictures for pictures, _ in chunks])[:count])
        captions = [caption for _, chunk in chunks for caption in chunk][:count]
        captions_file.write_text(json.dumps(captions), encoding="utf-8")
    return np.load(pictures_file, mmap_mode="r"), json.loads(captions_file.read_text(encoding="utf-8"))
