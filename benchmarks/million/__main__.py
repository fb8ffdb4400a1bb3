"""What a training does with millions of pictures beside the pictures: `python -m benchmarks.million`.

Makes sets of 118,102, 1,000,000 and 3,300,000 rows without pictures, each with the cache that a training
would find, and measures by part, each size in processes of its own: reading the set, checking the run, its
fingerprint, opening the cache and seeing that it is whole (alone, and as one of 8 processes of a machine),
the balanced order, the means of v, batches read from the disk, `train --dry-run`, and the Gaussian fit. Says
how many bytes a picture has in a cache of 512 pixels, from one that is really made. The largest set takes
17 GB of disk under --work; sets that were there stay, others go.

Seconds of computing are what a busy machine changes least. What the disk gives is this machine's own affair.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measuring.answer import Question, answer, figure, progress, save_figure, table
from benchmarks.measuring.processes import Measured, coemogen, measure
from benchmarks.million.set import bytes_per_picture, fill_cache, make_set

SIZES, QUICK = (118_102, 1_000_000, 3_300_000), (10_000, 40_000)
_PROCESSES = 8  # of a machine
_NOTHING = "nothing yet"
_DRAWN = {
    "check the run": "checking the run",
    "fingerprint": "fingerprint",
    "open the cache, one of 8": "opening the cache, as one of 8",
    "means of v": "means of v",
    "train --dry-run": "train --dry-run",
    "Gaussian fit, 1": "Gaussian fit",
}

Figures = dict[str, dict[str, float]]


def measure_size(root: Path, rows: int, fits: tuple[str, ...]) -> Figures:
    """Every part with so many rows: seconds, seconds of computing, MiB at most and MiB that stay."""
    fill_cache(make_set(root, rows))
    progress(f"{rows} rows")
    told: Figures = _run("ready", root)["parts"]
    for components in fits:
        parts = _run("fit", root, "--components", components)["parts"]
        told |= {name: figures for name, figures in parts.items() if name != _NOTHING}
    dry = coemogen("train", "--config", "paper", "--dry-run", "--set", f"set={root}", "--out", root / "run")
    dry += ["--set", "resolution=64", "--set", "validate_every=0"]
    told["train --dry-run"] = _figures(measure(dry))
    return told


def _run(task: str, root: Path, *more: str) -> dict[str, Any]:
    return measure([sys.executable, "-m", "benchmarks.million.parts", task, str(root), *more]).answer


def _figures(found: Measured) -> dict[str, float]:
    return {"seconds": found.seconds, "cpu": found.cpu, "peak_mib": found.peak, "stays_mib": 0.0}


def words(sizes: dict[int, Figures], cached: dict[str, float]) -> str:
    """Markdown for people."""
    names = list(next(iter(sizes.values())))
    heads = [f"{rows:,} rows: s (computing)" for rows in sizes] + [f"{rows:,}: MiB at most" for rows in sizes]
    lines = [
        [name]
        + [f"{told[name]['seconds']:.3g} ({told[name]['cpu']:.3g})" for told in sizes.values()]
        + [f"{told[name]['peak_mib']:.0f}" for told in sizes.values()]
        for name in names
    ]
    kept = ", ".join(f"{rows:,}: {_resident(told):.0f}" for rows, told in sizes.items())
    each = "; ".join(f"{name} {size:,.0f}" for name, size in cached.items())
    return (
        f"{table(['part', *heads], lines)}\n\nMiB that stay in a process that makes batches: {kept}; a "
        f"machine with {_PROCESSES} has that {_PROCESSES} times.\n\n"
        f"Bytes a picture takes at 512 pixels: {each}."
    )


def _resident(told: Figures) -> float:
    return max(figures["stays_mib"] for name, figures in told.items() if "batches" in name)


def plot(sizes: dict[int, Figures], file: Path) -> None:
    """Seconds and memory against rows."""
    drawn, (left, right) = figure(8.6, 3.6, columns=2)
    rows = list(sizes)
    for name, title in _DRAWN.items():
        left.plot(rows, [told[name]["cpu"] for told in sizes.values()], marker="o", label=title)
    left.set_yscale("log")
    left.set_title("seconds of computing, one process", fontsize=11)
    gib = {
        "a process ready to train": [_resident(told) / 1024 for told in sizes.values()],
        "the same while it reads the set": [
            told["check the run"]["peak_mib"] / 1024 for told in sizes.values()
        ],
        "Gaussian fit, at most": [told["Gaussian fit, 1"]["peak_mib"] / 1024 for told in sizes.values()],
    }
    for title, values in gib.items():
        right.plot(rows, values, marker="o", label=title)
    right.set_title("GiB of memory, one process", fontsize=11)
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xticks(rows, [f"{number:,}" for number in rows], fontsize=9)
        axes.minorticks_off()
        axes.set_xlabel("pictures in the set")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
    save_figure(drawn, file)


def main() -> None:
    question = Question(__doc__, "million")
    add = question.parser.add_argument
    add("--rows", type=int, action="append", help="of a set; may be given several times")
    add("--fit", action="append", help="components of the Gaussian fit, a number or auto; 1 is the paper's")
    add("--work", type=Path, help="where the sets are made; default a temporary folder")
    add("--plot", type=Path, help="PNG or SVG to draw time and memory into")
    chosen = question.ask()
    with tempfile.TemporaryDirectory() as made:
        sizes, cached = _measured(chosen, (chosen.work or Path(made)).absolute())
    plot(sizes, chosen.plot or chosen.out / "million.png")
    answer(chosen, "million", {"rows": sizes, "bytes_per_picture": cached}, words(sizes, cached))


def _measured(chosen: argparse.Namespace, work: Path) -> tuple[dict[int, Figures], dict[str, float]]:
    sizes, fits = {}, tuple(dict.fromkeys(["1", *(chosen.fit or ())]))
    cached = bytes_per_picture(work / "bytes")
    shutil.rmtree(work / "bytes")
    for rows in chosen.rows or (QUICK if chosen.quick else SIZES):
        root = work / str(rows)
        there = (root / "set.json").exists()
        sizes[rows] = measure_size(root, rows, fits)
        if not there:
            shutil.rmtree(root)
    return sizes, cached


if __name__ == "__main__":
    main()
