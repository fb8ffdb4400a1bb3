"""Peak memory of a training step, and what the plan of a run says of it: `python -m benchmarks.memory`.

Every point is a process of its own that makes a base, does two whole steps (forward, backward, optimiser) and
tells how far its memory rose; beside it stands what the plan estimates for the same settings. Measured are,
on a CPU, the bytes of resident memory above those of the interpreter with its libraries, and on a GPU those
that PyTorch's allocator took from the device, the context apart. The weights are random, of Stable
Diffusion 1.5's sizes or the toy's.

The peak is that of the steps alone on a GPU, and on Linux where a process may begin its peak anew
(/proc/self/clear_refs). Elsewhere it is that of the whole process, the making of the weights included: the
highest working set that Windows keeps, and on other systems the highest resident memory that was seen, 50
looks a second. Such rows are marked, `peak_of` is "the process", and they prove less of the estimate.

On Linux a heap holds more than is in use where blocks of many sizes come and go: with
MALLOC_MMAP_THRESHOLD_=131072, so that every large block is given back, the toy's largest batches fall to what
is estimated.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import psutil
import torch

from coemogen_train.base.shape import read_base_shape
from coemogen_train.emotions import MIKELS
from coemogen_train.train.memory import MemoryEstimate, estimate_memory
from coemogen_train.train.rehearsal import MetaModels, rehearse_encoding, rehearse_step

from ..measuring.answer import Question, answer, figure, progress, save_figure, table
from ..measuring.models import Size
from ..measuring.processes import Measured, measure
from ..measuring.rounds import Spread
from ..measuring.stepping import VISION_WIDTH
from .point import NAMES, Point, step_alone

_MIB, _GIB = 2**20, 2**30
# What a step of Stable Diffusion 1.5 at 512 px in bf16, batch 1, may take on a GPU.
GPU_BOUNDS = {"checkpointed": 4.0 * _GIB, "plain": 7.5 * _GIB}


def points(quick: bool, device: torch.device) -> list[Point]:
    """What is measured, the smallest first."""
    if device.type == "cuda":
        toy = [(64, count) for count in ((32,) if quick else (8, 32, 128))]
        real = [(pixels, count) for pixels in (256, 512, 768) for count in ((1,) if quick else (1, 2, 4, 8))]
        precision = "bf16"
    else:
        toy = [(64, count) for count in ((8, 32) if quick else (8, 32, 128))]
        more = [(128, 1), (256, 1), (512, 1), (128, 2), (128, 4), (256, 2), (256, 4)]
        real = [(64, 1), *([] if quick else more)]
        precision = "fp32"
    sizes: dict[Size, list[tuple[int, int]]] = {"toy": toy, "sd15": real}
    return [
        Point(size, resolution, count, checkpointing, precision)
        for size, places in sizes.items()
        for resolution, count in places
        for checkpointing in (False, True)
    ]


class Estimates:
    """What the plan says of points; the models without memory are made once for each size."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._models: dict[tuple[Size, str], MetaModels] = {}

    def of(self, point: Point) -> MemoryEstimate:
        """The plan's estimate of a point, but for the context of a GPU."""
        kind = self._device.type
        config = point.config()
        shape = read_base_shape("toy" if point.size == "toy" else "stable-diffusion-v1-5/unknown")
        key = (point.size, point.precision)
        if key not in self._models:
            self._models[key] = MetaModels.build(config, shape, MIKELS, VISION_WIDTH)
        models = self._models[key]
        step = rehearse_step(models, config, shape, kind, point.checkpointing)
        encoding = rehearse_encoding(models, point.resolution, 1)
        # As of a CPU, which has no context of its own: measured on a GPU is what stands beside it.
        return estimate_memory(models, config, "cpu", step, None, encoding).plain


def measured(point: Point, estimate: MemoryEstimate, device: torch.device) -> dict[str, Any]:
    """One point as `--json` answers it; all sizes in bytes.

    Raises:
        SystemExit: its process failed, with the end of its log.
    """
    command = [sys.executable, "-m", "benchmarks.memory", "--point", json.dumps(asdict(point))]
    found: Measured = measure([*command, "--device", str(device)])
    told = found.answer
    peak = int(told.get("peak") or found.peak * _MIB - told["bare"])
    return {
        **asdict(point),
        "measured": peak,
        "peak_of": "the steps" if told["anew"] else "the process",
        "measured_weights": told["weights"],
        "measured_activations": peak - told["weights"],
        **({"measured_allocated": told["allocated"]} if "allocated" in told else {}),
        "estimated": estimate.total,
        "estimated_weights": estimate.weights + estimate.trainable,
        "estimated_activations": estimate.activations + estimate.overhead,
        "estimate_vs_measured": estimate.total / peak,
        "seconds": round(found.seconds, 1),
    }


def measure_all(
    todo: Sequence[Point], device: torch.device
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of what could be measured; the points that could not, each with its reason."""
    estimates, rows, left_out = Estimates(device), [], []
    for point in todo:
        try:
            estimate = estimates.of(point)
            needed, free = estimate.total / _GIB, room(device) / _GIB
            if needed > free:
                raise SystemExit(f"it would take about {needed:.1f} GiB, and {free:.1f} are free")
            rows.append(measured(point, estimate, device))
        except (SystemExit, RuntimeError, KeyError) as reason:
            left_out.append({"point": point.words(), "reason": str(reason).strip() or repr(reason)})
            progress(f"Left out: {point.words()}: {reason}")
            continue
        progress(
            f"{point.words()}: {rows[-1]['measured'] / _GIB:.2f} GiB, estimated {estimate.total / _GIB:.2f}"
        )
    return rows, left_out


def room(device: torch.device) -> int:
    """Bytes that a point may use now: nothing else on the machine should have to make way."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory * 0.9)
    return int(psutil.virtual_memory().available * 0.85)


def words(rows: Sequence[dict[str, Any]], left_out: Sequence[dict[str, Any]], bounds: dict[str, bool]) -> str:
    """The figures for people."""

    def gib(size: float) -> str:
        return f"{size / _GIB:.2f}"

    lines = [
        [
            Point(**{name: row[name] for name in Point.__dataclass_fields__}).words()
            + ("" if row["peak_of"] == "the steps" else " *"),
            gib(row["measured"]),
            gib(row["measured_weights"]),
            gib(row["measured_activations"]),
            gib(row["estimated"]),
            f"{row['estimate_vs_measured']:.2f}",
        ]
        for row in rows
    ]
    heads = ["step of", "peak, GiB", "before the steps", "steps above it", "estimate, GiB", "estimate / peak"]
    told = [table(heads, lines), ""]
    told += [f"Left out: {one['point']}: {one['reason'].splitlines()[-1]}" for one in left_out]
    if any(row["peak_of"] != "the steps" for row in rows):
        told.append("* the peak of the whole process, the making of its weights included")
    told += [f"within its bound, {name}: {'yes' if kept else 'no'}" for name, kept in bounds.items()]
    return "\n".join(told)


def gpu_bounds(rows: Sequence[dict[str, Any]]) -> dict[str, bool]:
    """Whether batch 1 at 512 px in bf16 keeps to what it may take; nothing where it was not measured."""
    return {
        name: row["measured"] <= bound
        for name, bound in GPU_BOUNDS.items()
        for row in rows
        if row["size"] == "sd15" and row["precision"] == "bf16"
        if (row["resolution"], row["batch_size"]) == (512, 1)
        if row["checkpointing"] == (name == "checkpointed")
    }


def plot(rows: Sequence[dict[str, Any]], file: Any) -> None:
    """The peak against the pixels of a batch: measured solid, estimated dashed, a panel for each size."""
    sizes = [size for size in NAMES if any(row["size"] == size for row in rows)]
    drawn, axes = figure(5.2 * len(sizes), 4.2, len(sizes))
    for place, size in enumerate(sizes):
        panel = axes[place] if len(sizes) > 1 else axes
        for checkpointing, colour in ((False, "#2b6cb0"), (True, "#c2452d")):
            chosen = sorted(
                (row for row in rows if row["size"] == size and row["checkpointing"] == checkpointing),
                key=lambda row: row["batch_size"] * row["resolution"] ** 2,
            )
            pixels = [row["batch_size"] * row["resolution"] ** 2 / 1e6 for row in chosen]
            name = f"{'with' if checkpointing else 'without'} checkpointing"
            for key, line, mark, label in (
                ("measured", "-o", 4, name),
                ("estimated", "--s", 7, f"{name}, estimated"),
            ):
                heights = [row[key] / _GIB for row in chosen]
                drawing = {"markersize": mark, "markerfacecolor": "none", "linewidth": 1.4}
                panel.plot(pixels, heights, line, color=colour, label=label, **drawing)
        panel.set_title(NAMES[size], fontsize=11)
        panel.set_xscale("log")
        panel.set_xlabel("millions of pixels in a batch")
        panel.set_ylabel("peak of a step, GiB")
        panel.set_ylim(0, panel.get_ylim()[1] * 1.35)  # room for the legend
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize=8)
    save_figure(drawn, file)


def main() -> None:
    question = Question(__doc__, "memory")
    question.parser.add_argument("--point", help=argparse.SUPPRESS)
    chosen = question.ask()
    if chosen.point is not None:
        print(json.dumps(step_alone(Point(**json.loads(chosen.point)), chosen.device)))
        return
    rows, left_out = measure_all(points(chosen.quick, chosen.device), chosen.device)
    ratios = {
        size: Spread.of([row["estimate_vs_measured"] for row in rows if row["size"] == size])
        for size in NAMES
        if any(row["size"] == size for row in rows)
    }
    bounds = gpu_bounds(rows)
    told = {
        "estimate_vs_measured": ratios.get("sd15") or ratios.get("toy"),
        "estimate_vs_measured_by_size": ratios,
        "points": rows,
        "left_out": left_out,
        "within_gpu_bounds": bounds,
    }
    answer(chosen, "memory", told, words(rows, left_out, bounds))
    if rows:
        plot(rows, chosen.out / "memory.png")


if __name__ == "__main__":
    main()
