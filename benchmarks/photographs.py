"""Real photographs and a full-width Stable Diffusion 1.5: `python -m benchmarks.photographs --work DIR`.

Sorts photographs that scikit-image carries into eight emotions, writes an SD 1.5-shaped checkpoint and a
ViT-L/14 clip_vision file with random weights, and runs `prepare`, `cache`, `train` (3 steps at 256 px, with
averaged weights, min-SNR, validation, checkpointing and accumulation) and `generate` (one picture) on
them, offline, each in a process of its own. Prints seconds and peak memory. What comes out is noise: it shows
that the sizes fit, not what the method can do.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

PHOTOGRAPHS = {
    "amusement": [("chessboard_RGB.png", "black and white squares of a chessboard seen from above")],
    "awe": [
        ("hubble_deep_field.jpg", "hundreds of far galaxies glow in the black of deep space"),
        ("moon.png", "grey craters and ridges cover the surface of the moon in low light"),
    ],
    "contentment": [
        ("chelsea.png", "a ginger cat with green eyes rests and looks at the camera in soft light"),
        ("coffee.png", "a cup of coffee with a spoon stands on a wooden table in warm light"),
    ],
    "excitement": [
        ("rocket.jpg", "a rocket lifts off on a column of fire before a blue sky"),
        ("astronaut.png", "a smiling astronaut in an orange suit stands before a flag and a shuttle"),
    ],
    "anger": [("motorcycle_left.png", "a motorcycle stands among tools in a cluttered garage")],
    "disgust": [("ihc.png", "brown and blue stained tissue under a microscope")],
    "fear": [("retina.jpg", "an orange globe crossed by dark red vessels floats in black")],
    "sadness": [("gravel.png", "grey gravel covers the ground in flat light")],
}


def write_inputs(work: Path) -> tuple[Path, Path, Path]:
    """The table of photographs, the checkpoint and the clip_vision file."""
    import skimage
    import torch
    from safetensors.torch import save_file
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from tests.base.checkpoints import write_random_sd15

    table = work / "photographs.csv"
    folder = Path(skimage.__file__).parent / "data"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "emotion", "caption", "split"))
        for emotion, photographs in PHOTOGRAPHS.items():
            for number, (name, caption) in enumerate(photographs):
                held_out = emotion == "awe" and number > 0
                writer.writerow((folder / name, emotion, caption, "val" if held_out else "train"))
    checkpoint, vision = work / "random-sd15.safetensors", work / "random-vit-l-14.safetensors"
    if not checkpoint.exists():
        write_random_sd15(checkpoint)
    if not vision.exists():
        torch.manual_seed(0)
        config = CLIPVisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=24,
            num_attention_heads=16,
            image_size=224,
            patch_size=14,
            projection_dim=768,
        )
        model = CLIPVisionModelWithProjection(config).half()
        prefix = "" if any(key.startswith("vision_model.") for key in model.state_dict()) else "vision_model."
        weights = {
            key if key.startswith("visual_projection") else prefix + key: value.contiguous()
            for key, value in model.state_dict().items()
        }
        save_file(weights, vision)
    return table, checkpoint, vision


def run(*arguments: str) -> dict[str, object]:
    """One command, offline: its JSON answer, seconds, and peak memory in GiB."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "coemogen_train", *arguments, "--json"]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, encoding="utf-8")  # noqa: S603
    peak = 0
    while process.poll() is None:
        peak = max(peak, _resident(process.pid))
        time.sleep(0.2)
    answer = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"{arguments[0]} failed: {answer}")
    return {
        "answer": json.loads(answer),
        "seconds": round(time.monotonic() - started, 1),
        "peak_gib": round(peak / 2**30, 2),
    }


def _resident(pid: int) -> int:
    """Resident bytes of a process, 0 where /proc is not to be had."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    work = parser.parse_args().work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    table, checkpoint, vision = write_inputs(work)
    models = ("--base", str(checkpoint), "--vision", str(vision))
    settings = {
        "base": checkpoint,
        "vision": vision,
        "set": work / "set",
        "resolution": 256,
        "steps": 3,
        "batch_size": 1,
        "log_every": 1,
        "preview_every": 0,
        "precision": "fp32",
        "accumulate": 2,
        "gradient_checkpointing": "true",
        "ema_decay": 0.99,
        "min_snr_gamma": 5,
        "validate_every": 3,
        "save_every": 1,
    }
    chosen = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    adapter = work / "run" / "adapter.safetensors"
    stages = {
        "prepare": run("prepare", str(table), "--out", str(work / "set")),
        "cache": run("cache", str(work / "set"), *models, "--resolution", "256"),
        "train": run("train", "--config", "8gb", "--out", str(work / "run"), *chosen),
        "generate": run(
            *("generate", str(adapter), "--base", str(checkpoint), "--emotion", "awe", "--size", "256"),
            *("--steps", "5", "--out", str(work / "pictures")),
        ),
    }
    history = (work / "run" / "history.jsonl").read_text(encoding="utf-8").splitlines()
    validation = (work / "run" / "validation.jsonl").read_text(encoding="utf-8").splitlines()
    lines = {"history": history, "validation": validation}
    told = {name: [json.loads(line) for line in file] for name, file in lines.items()}
    print(json.dumps({"stages": stages, **told}, indent=1))


if __name__ == "__main__":
    main()
