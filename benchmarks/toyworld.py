"""The demo over several seeds: `python -m benchmarks.toyworld --out DIR`, a Markdown table with its spread.

A seed changes the data set, the adapter's start, every draw in training, and the noise of the pictures; the
base model is the same. Finished seeds are read, not run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

ROWS = {
    "real, held out": "_real",
    "real, through the autoencoder": "_real_decoded",
    "base, the emotion's name": "_base",
    "base, sampled sentences": "_sentences",
    "CoEmoGen": "",
    "CoEmoGen, HiLoRA on both branches": "_both_branches",
    "CoEmoGen, one Gaussian per emotion (the paper's)": "_single_gaussian",
    "CoEmoGen, v of real held-out pictures": "_real_v",
}
COLUMNS = ("emo_a", "emo_a_second_probe", "coverage", "story", "frechet")


def run_seed(out: Path, seed: int) -> dict[str, Any]:
    """The figures of one seed, from a process of its own."""
    done = out / f"seed{seed}.json"
    if not done.exists():
        command = [sys.executable, "-m", "coemogen_train", "demo", "--json", "--seed", str(seed)]
        command += ["--out", str(out / f"seed{seed}")]
        answer = subprocess.run(command, stdout=subprocess.PIPE, check=True, encoding="utf-8")  # noqa: S603
        done.write_text(answer.stdout, encoding="utf-8")
    figures: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
    return figures


def spread(values: Sequence[float]) -> str:
    """Mean, and in brackets the lowest and the highest."""
    return f"{mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def markdown(runs: Sequence[dict[str, Any]]) -> str:
    """The table of the README."""
    lines = [
        "| row | Emo-A | Emo-A, second probe | coverage of 6 | story | Frechet | guidance |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, end in ROWS.items():
        if any(f"emo_a{end}" not in run for run in runs):
            continue
        cells = [spread([run[f"{column}{end}"] for run in runs]) for column in COLUMNS]
        scales = sorted({run[f"guidance{end}"] for run in runs} - {None})
        lines.append(f"| {name} | {' | '.join(cells)} | {', '.join(f'{scale:g}' for scale in scales)} |")
    gains = [run["emo_a"] - run["emo_a_base"] for run in runs]
    lines += [
        "",
        f"Gain in Emo-A over the base by name: {spread(gains)}; lowest end of a seed's 95% interval "
        f"{min(run['gain_low'] for run in runs):.2f}. "
        f"Seconds: median {median(run['seconds'] for run in runs):.0f}.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/toyworld"))
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(markdown([run_seed(arguments.out, seed) for seed in range(arguments.seeds)]))


if __name__ == "__main__":
    main()
