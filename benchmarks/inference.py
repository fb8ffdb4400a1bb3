"""What our nodes cost in ComfyUI: `python -m benchmarks.inference --out DIR`.

Samples with Stable Diffusion 1.5's full width (random weights) in a real ComfyUI: the stock text encoder and
the stock LoraLoader with a plain LoRA of the same update, beside our nodes in both modes, paired: every round
runs all of them in an order drawn anew, and the ratios are taken within a round. Also the pack's time to be
imported beside an empty pack's, the time to open an adapter, and embeddings drawn per second.
ComfyUI is found as the tests find it (COMFYUI_PATH, else comfy-cli's default workspace).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.toyruns import table
from coemogen_train.adapter.choice import EmotionChoice
from coemogen_train.adapter.export import plain_lora
from coemogen_train.adapter.file import load_adapter
from coemogen_train.evaluate.intervals import bootstrap_statistic
from tests.base.checkpoints import write_random_sd15
from tests.comfyui.adapters import write_adapter
from tests.comfyui.installation import Installation, find_comfyui

ROOT = Path(__file__).resolve().parents[1]
# Merged, as the stock LoRA, is weights of its own; routed leaves the checkpoint's in place, as bare does.
PAIRS = (("merged", "stock"), ("routed", "stock"), ("routed", "bare"))
EMPTY_PACK = """
from comfy_api.latest import ComfyExtension


class Empty(ComfyExtension):
    async def get_node_list(self):
        return []


async def comfy_entrypoint():
    return Empty()
"""


def write_models(folder: Path) -> None:
    """A checkpoint of full width, an adapter for it with full covariances, and awe as a plain LoRA."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "random-sd15.safetensors").exists():
        write_random_sd15(folder / "random-sd15.safetensors")
    if not (folder / "adapter.safetensors").exists():
        write_adapter(folder / "adapter.safetensors", "full", covariance="full")
    adapter = load_adapter(folder / "adapter.safetensors")
    gate = EmotionChoice(adapter, "adapter.safetensors", torch.eye(8)[[1]]).gates()[0]
    save_file(plain_lora(adapter.hilora, gate), str(folder / "plain-lora.safetensors"))


def inside(comfyui: Installation, task: str, *arguments: str) -> Any:
    """The answer of `inside_comfyui.py`."""
    script = Path(__file__).with_name("inside_comfyui.py")
    command = [str(comfyui.python), str(script), str(comfyui.folder), task, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)  # noqa: S603
    return json.loads(done.stdout.decode("utf-8").splitlines()[-1])


def imports(comfyui: Installation, work: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds to import our pack and an empty one, in fresh processes by turns."""
    empty = work / "empty-pack"
    empty.mkdir(exist_ok=True)
    (empty / "__init__.py").write_text(EMPTY_PACK, encoding="utf-8")
    found: dict[str, list[float]] = {"ours": [], "empty": []}
    for _ in range(rounds):
        for name, pack in (("ours", ROOT), ("empty", empty)):
            found[name].append(float(inside(comfyui, "import", str(pack))["seconds"]))
    return found


def files(folder: Path) -> dict[str, float]:
    """Seconds to open and check an adapter, its MB, and embeddings drawn per second."""
    path = folder / "adapter.safetensors"
    begin = time.perf_counter()
    adapter = load_adapter(path)
    opened = time.perf_counter() - begin
    rows = torch.eye(8).repeat(32, 1)
    begin = time.perf_counter()
    adapter.gaussians.sample(rows, 0)
    drawn = time.perf_counter() - begin
    return {
        "adapter_seconds": opened,
        "adapter_mb": path.stat().st_size / 1e6,
        "embeddings_per_second": len(rows) / drawn,
    }


def ratio(seconds: dict[str, list[float]], one: str, other: str) -> dict[str, float]:
    """The median of the ratios within a round, with its 95% bootstrap interval over rounds."""
    ratios = [a / b for a, b in zip(seconds[one], seconds[other], strict=True)]
    found = bootstrap_statistic(
        lambda rounds: statistics.median(ratios[int(index)] for index in rounds), [0] * len(ratios)
    )
    return {"median": found.value, "low": found.low, "high": found.high}


def markdown(told: dict[str, Any]) -> str:
    """The figures for people."""
    rows = [[name, f"{statistics.median(values):.3f}"] for name, values in told["seconds_per_step"].items()]
    lines = [table(["graph", "seconds per step"], rows), ""]
    for pair, found in told["ratios"].items():
        lines.append(f"{pair}: {found['median']:.3f} ({found['low']:.3f} to {found['high']:.3f})")
    for name, values in told["import_seconds"].items():
        lines.append(
            f"import, {name}: {statistics.median(values):.3f} s ({min(values):.3f} to {max(values):.3f})"
        )
    lines.append(", ".join(f"{key} {value:.3g}" for key, value in told["files"].items()))
    lines.append(f"encoding: {told['seconds_of_encoding']}")
    lines.append(f"{told['machine']}; ComfyUI {told['comfyui']}; {told['size']} px; {told['rounds']} rounds")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/inference"))
    parser.add_argument("--size", type=int, default=256, help="pixels")
    parser.add_argument("--steps", type=int, default=2, help="per run")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--flags", default="--cpu", help="of ComfyUI's main.py")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    work = arguments.out.absolute()
    comfyui = find_comfyui()
    write_models(work / "models")
    settings = [f"--{name}={getattr(arguments, name)}" for name in ("size", "steps", "rounds", "flags")]
    told = inside(comfyui, "sample", str(ROOT), str(work / "models"), *settings)
    told["ratios"] = {
        f"{one} to {other}": ratio(told["seconds_per_step"], one, other) for one, other in PAIRS
    }
    told["import_seconds"] = imports(comfyui, work, 5)
    told["files"] = files(work / "models")
    told |= {"comfyui": comfyui.version, "size": arguments.size, "rounds": arguments.rounds}
    told["machine"] = (
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {told['device']}"
    )
    (work / "inference.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    (work / "inference.md").write_text(markdown(told), encoding="utf-8")
    print(json.dumps(told) if arguments.json else markdown(told))


if __name__ == "__main__":
    main()
