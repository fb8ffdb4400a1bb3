"""Plans at full size: `python -m benchmarks.plan --work DIR`, with the seconds that a dry run takes.

Makes a set of EmoSet-118K's size (118,102 rows, 80 / 5 / 15 per cent, emotions about as unevenly filled,
every row captioned; a few small pictures lie under all of its names as links) and prints what
`train --dry-run` says of the presets `paper`, as one process and as two, and `8gb`, and of `toy` for the toy
world's set. No weights of Stable Diffusion are needed. Below stands the memory that both would take on a GPU,
whether this machine has one or not.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from PIL import Image

from coemogen_train.base.shape import read_base_shape
from coemogen_train.data import prepare_toy
from coemogen_train.data.samples import SetInfo, create_set
from coemogen_train.emotions import MIKELS
from coemogen_train.train.config import load_config
from coemogen_train.train.disk import readable_size
from coemogen_train.train.memory import estimate_memory
from coemogen_train.train.rehearsal import MetaModels, rehearse_encoding, rehearse_step

ROWS = 118_102
# In MIKELS' order: made up, as uneven as such collections are.
SHARES = (0.18, 0.12, 0.14, 0.16, 0.10, 0.09, 0.11, 0.10)
PICTURES = 16  # files that really lie there; the rows share them


def make_large_set(root: Path) -> Path:
    """Write the set, if it is not there; returns its folder."""
    if (root / "set.json").exists():
        return root
    folder = root / "images"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(PICTURES):
        Image.new("RGB", (640, 512), (number * 16, 90, 255 - number * 16)).save(folder / f"{number}.jpg")
    counts = [round(ROWS * share) for share in SHARES]
    counts[0] += ROWS - sum(counts)
    rows, given = [], []
    for emotion, count in zip(MIKELS.names, counts, strict=True):
        for number in range(count):
            key = f"{emotion}_{number:05d}"
            digest = hashlib.sha256(key.encode()).hexdigest()
            place = int(digest[:8], 16) / 2**32
            picture = folder / f"{key}.jpg"
            if not picture.exists():
                os.link(folder / f"{number % PICTURES}.jpg", picture)
            rows.append(
                {
                    "id": key,
                    "image": picture.name,
                    "emotion": emotion,
                    "split": "train" if place < 0.8 else "val" if place < 0.85 else "test",
                    "sha256": digest,
                    "width": 640,
                    "height": 512,
                    "scene": "street",
                    "objects": ["tree", "lamp"],
                    "attributes": "{}",
                }
            )
            given.append((key, digest, f"a lamp shines on picture number {number} in a wet street"))
    info = SetInfo(MIKELS, "CC-BY-NC-4.0", "made for this benchmark", "images", None, {})
    create_set(root, info, sorted(rows, key=lambda row: row["id"]), sorted(given))
    return root


def dry_run(preset: str, folder: Path, out: Path, processes: int = 1) -> None:
    """Print the plan of a preset as the command prints it, in a process of its own, and its seconds."""
    command = [sys.executable, "-m", "coemogen_train", "train", "--config", preset, "--dry-run"]
    command += ["--set", f"set={folder}", "--out", str(out)]
    environment = {**os.environ, "COLUMNS": "100", "WORLD_SIZE": str(processes), "HF_HUB_OFFLINE": "1"}
    started = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8")  # noqa: S603
    seconds = time.monotonic() - started
    ending = "es" if processes > 1 else ""
    print(
        f"\n## {preset}, {processes} process{ending}: {seconds:.1f} s\n\n{done.stdout}{done.stderr}",
        flush=True,
    )
    done.check_returncode()


def memory_on_a_gpu(preset: str) -> None:
    """Print what a step of a preset takes on a GPU, whether this machine has one or not."""
    config = load_config(preset, ["set=any", "out=any"])
    shape = read_base_shape(config.base)
    models = MetaModels.build(config, shape, MIKELS, 768)
    plain, less = (
        rehearse_step(models, config, shape, "cuda", checkpointing) for checkpointing in (False, True)
    )
    encoding = rehearse_encoding(models, config.resolution, 1)
    memory = estimate_memory(models, config, "cuda", plain, less, encoding)
    told = [
        f"{name} {readable_size(estimate.total)} (activations {readable_size(estimate.activations)})"
        for name, estimate in (("plain", memory.plain), ("with checkpointing", memory.checkpointed))
        if estimate is not None
    ]
    print(f"{preset} on a GPU: {'; '.join(told)}; caching {readable_size(memory.caching)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/results/plan"))
    work = parser.parse_args().work.absolute()
    started = time.monotonic()
    large = make_large_set(work / "large")
    if not (work / "toy" / "set.json").exists():
        prepare_toy(work / "toy", train_per_emotion=50, val_per_emotion=8, test_per_emotion=4)
    print(f"sets: {time.monotonic() - started:.0f} s; torch {torch.__version__}")
    dry_run("paper", large, work / "run")
    dry_run("paper", large, work / "run", processes=2)
    dry_run("8gb", large, work / "run")
    dry_run("toy", work / "toy", work / "run")
    for preset in ("paper", "8gb"):
        memory_on_a_gpu(preset)


if __name__ == "__main__":
    main()
