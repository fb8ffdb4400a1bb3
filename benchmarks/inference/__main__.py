"""What our nodes cost at inference: `python -m benchmarks.inference`.

Without ComfyUI, in plain PyTorch: a U-Net's pass with HiLoRA beside its layers, for one emotion and for a
batch of mixed ones, against the same with one emotion merged into the weights, as a plain LoRA is; the time
to open an adapter of Stable Diffusion 1.5's size; embeddings drawn per second.

With a ComfyUI (COMFYUI_PATH, else comfy-cli's default workspace), in its own process: sampling with Stable
Diffusion 1.5's full width (random weights), the stock text encoder and the stock LoraLoader with a plain LoRA
of the same update beside our nodes in both modes, the encoding of a prompt, and the pack's time to be
imported beside an empty pack's. All is paired: every round has all of them in an order drawn anew, and ratios
are taken within a round. What cannot be measured is left out, and the answer says why.
`--quick` leaves ComfyUI out: writing and loading a checkpoint of full width alone takes longer.
"""

from __future__ import annotations

import json
import random
import subprocess
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from coemogen_train.adapter.choice import EmotionChoice
from coemogen_train.adapter.export import plain_lora
from coemogen_train.adapter.file import load_adapter
from tests.base.checkpoints import write_random_sd15
from tests.comfyui.adapters import write_adapter
from tests.comfyui.installation import Installation, NotHere, find_comfyui

from ..measuring.answer import Question, answer, bars, figure, progress, save_figure, table
from ..measuring.models import Size
from ..measuring.rounds import Rounds, Spread
from .plain import draws, load_rounds, sampling_rounds

ROOT = Path(__file__).resolve().parents[2]
# Merged, as the stock LoRA, is weights of its own; routed leaves the checkpoint's in place, as bare does.
PAIRS = (("merged", "stock"), ("routed", "stock"), ("routed", "bare"))
PLAIN_PAIRS = (("routed", "merged"), ("mixed", "merged"))
EMPTY_PACK = """
from comfy_api.latest import ComfyExtension


class Empty(ComfyExtension):
    async def get_node_list(self):
        return []


async def comfy_entrypoint():
    return Empty()
"""


def full_adapter(folder: Path) -> Path:
    """An adapter for Stable Diffusion 1.5 with full covariances, its file as large as a trained one's."""
    path = folder / "adapter.safetensors"
    return path if path.exists() else write_adapter(path, "full", covariance="full")


def write_models(folder: Path) -> None:
    """A checkpoint of full width, an adapter for it, and awe as a plain LoRA."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "random-sd15.safetensors").exists():
        write_random_sd15(folder / "random-sd15.safetensors")
    adapter = load_adapter(full_adapter(folder))
    gate = EmotionChoice(adapter, "adapter.safetensors", torch.eye(8)[[1]]).gates()[0]
    save_file(plain_lora(adapter.hilora, gate), str(folder / "plain-lora.safetensors"))


def inside(comfyui: Installation, task: str, *arguments: str) -> Any:
    """The answer of `inside_comfyui.py`. Raises: CalledProcessError where ComfyUI's process fails."""
    script = Path(__file__).with_name("inside_comfyui.py")
    command = [str(comfyui.python), str(script), str(comfyui.folder), task, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)  # noqa: S603
    return json.loads(done.stdout.decode("utf-8").splitlines()[-1])


def imports(comfyui: Installation, work: Path, rounds: int) -> dict[str, Spread]:
    """Seconds to import our pack and an empty one, in fresh processes, in an order drawn anew every round."""
    empty = work / "empty-pack"
    empty.mkdir(exist_ok=True)
    (empty / "__init__.py").write_text(EMPTY_PACK, encoding="utf-8")
    order, found, packs = random.Random(0), Rounds(), {"ours": ROOT, "empty": empty}
    for number in range(rounds):
        for name in order.sample(list(packs), len(packs)):
            found.add(number, name, float(inside(comfyui, "import", str(packs[name]))["seconds"]))
    return {name: found.spread(name) for name in found.seconds}


def in_comfyui(chosen: Namespace, left_out: list[str]) -> dict[str, Any]:
    """What is measured in ComfyUI; into `left_out` goes a sentence that says why something was not."""
    if chosen.quick:
        left_out.append("--quick leaves ComfyUI out: run this without it.")
        return {}
    try:
        comfyui = find_comfyui()
        write_models(chosen.out / "models")
        settings = [f"--{name}={getattr(chosen, name)}" for name in ("size", "steps", "rounds", "flags")]
        told = inside(comfyui, "sample", str(ROOT), str(chosen.out / "models"), *settings)
    except (NotHere, subprocess.CalledProcessError, OSError) as reason:
        left_out.append(f"Not measured in ComfyUI: {reason}.")
        return {}
    steps, encoding = _rounds(told["seconds_per_step"]), _rounds(told["seconds_of_encoding"])
    found = {
        "comfyui": comfyui.version,
        "comfyui_device": told["device"],
        "comfyui_resolution": chosen.size,
        "comfyui_seconds_per_step": {name: steps.spread(name) for name in steps.seconds},
        "seconds_of_encoding": {name: encoding.spread(name) for name in encoding.seconds},
        "encoding_vs_stock": encoding.ratio("ours", "stock"),
        **{f"{one}_vs_{other}": steps.ratio(one, other) for one, other in PAIRS},
    }
    try:
        return found | {"import_seconds": imports(comfyui, chosen.out, min(chosen.rounds, 5))}
    except (subprocess.CalledProcessError, OSError) as reason:
        left_out.append(f"The import of the pack was not measured: {reason}.")
        return found


def _rounds(told: dict[str, list[float]]) -> Rounds:
    found = Rounds()
    for name, values in told.items():
        for number, seconds in enumerate(values):
            found.add(number, name, seconds)
    return found


def cases(quick: bool, device: torch.device) -> list[tuple[Size, int, int, int]]:
    """(size, pixels, pictures, rounds) of the passes in plain PyTorch, the last the one that is told of."""
    if device.type == "cuda":
        return [("toy", 64, 8, 20), ("sd15", 512, 8, 20)]
    if quick:
        return [("toy", 64, 8, 5), ("sd15", 64, 2, 4)]
    return [("toy", 64, 8, 15), ("sd15", 64, 8, 9), ("sd15", 128, 8, 9), ("sd15", 256, 2, 9)]


def passes(chosen: Namespace, left_out: list[str]) -> list[dict[str, Any]]:
    """The U-Net's passes in plain PyTorch, a row for each case that could be measured."""
    rows = []
    for size, resolution, count, rounds in cases(chosen.quick, chosen.device):
        what = f"{size}, {resolution} px, {count} pictures"
        try:
            found = sampling_rounds(size, resolution, count, rounds, chosen.device)
        except (RuntimeError, MemoryError) as reason:  # out of memory, mostly
            left_out.append(f"Not measured: {what}: {reason}")
            progress(left_out[-1])
            continue
        rows.append(
            {
                "size": size,
                "resolution": resolution,
                "pictures": count,
                "seconds": {name: found.spread(name) for name in found.seconds},
                **{f"{one}_vs_{other}": found.ratio(one, other) for one, other in PLAIN_PAIRS},
            }
        )
        progress(f"{what}: routed {rows[-1]['routed_vs_merged']} of merged")
    return rows


def in_pytorch(chosen: Namespace, left_out: list[str]) -> dict[str, Any]:
    """What is measured in plain PyTorch."""
    rows = passes(chosen, left_out)
    path = full_adapter(chosen.out / "models")
    repeats = 3 if chosen.quick else 15
    return {
        "passes": rows,
        **{f"{one}_vs_{other}": row[f"{one}_vs_{other}"] for row in rows[-1:] for one, other in PLAIN_PAIRS},
        "adapter_load_seconds": load_rounds(path, repeats),
        "adapter_mb": path.stat().st_size / 1e6,
        "embeddings_per_second": draws(load_adapter(path).gaussians, repeats),
    }


def words(told: dict[str, Any]) -> str:
    """The figures for people."""
    names = {"sd15": "SD 1.5's shape", "toy": "toy"}
    rows = [
        [
            f"{names[row['size']]}, {row['resolution']} px, {row['pictures']} pictures",
            *(str(row["seconds"][name]) for name in ("merged", "routed", "mixed")),
            *(str(row[f"{one}_vs_{other}"]) for one, other in PLAIN_PAIRS),
        ]
        for row in told["passes"]
    ]
    heads = ["a pass, seconds", "merged", "routed", "mixed emotions", "routed / merged", "mixed / merged"]
    lines = [table(heads, rows), ""]
    lines.append(f"Opening an adapter of {told['adapter_mb']:.0f} MB: {told['adapter_load_seconds']} s")
    lines += [
        f"Embeddings per second, {name}: {spread}" for name, spread in told["embeddings_per_second"].items()
    ]
    if "comfyui" in told:
        steps = [[name, str(spread)] for name, spread in told["comfyui_seconds_per_step"].items()]
        heads = [f"ComfyUI {told['comfyui']}, {told['comfyui_resolution']} px", "s per step"]
        lines += ["", table(heads, steps), ""]
        lines += [f"{one} / {other}: {told[f'{one}_vs_{other}']}" for one, other in PAIRS]
        lines += [f"encoding, {name}: {spread} s" for name, spread in told["seconds_of_encoding"].items()]
        lines += [f"import, {name}: {spread} s" for name, spread in told.get("import_seconds", {}).items()]
    return "\n".join([*lines, "", *told["left_out"]])


def plot(told: dict[str, Any], file: Path) -> None:
    """Ratios of seconds on the left, embeddings per second on the right."""
    drawn, (left, right) = figure(11, 4.2, 2)
    ratios = {
        f"{row['size']}, {row['resolution']} px: {one}": row[f"{one}_vs_{other}"]
        for row in told["passes"]
        for one, other in PLAIN_PAIRS
    }
    if "comfyui" in told:
        ratios |= {f"ComfyUI: {one} / {other}": told[f"{one}_vs_{other}"] for one, other in PAIRS}
    bars(left, ratios, "a pass of the U-Net against a merged LoRA", "times as long", line=1.0)
    bars(right, told["embeddings_per_second"], "the sampler of embeddings", "rows per second")
    save_figure(drawn, file)


def main() -> None:
    question = Question(__doc__, "inference")
    question.parser.add_argument("--size", type=int, default=256, help="pixels, in ComfyUI")
    question.parser.add_argument("--steps", type=int, default=2, help="per run, in ComfyUI")
    question.parser.add_argument("--rounds", type=int, default=12, help="in ComfyUI")
    question.parser.add_argument("--flags", help="of ComfyUI's main.py; default --cpu, on a GPU none")
    chosen = question.ask()
    if chosen.flags is None:
        chosen.flags = "" if chosen.device.type == "cuda" else "--cpu"
    left_out: list[str] = []
    told = {**in_pytorch(chosen, left_out), **in_comfyui(chosen, left_out), "left_out": left_out}
    answer(chosen, "inference", told, words(told))
    plot(told, chosen.out / "inference.png")


if __name__ == "__main__":
    main()
