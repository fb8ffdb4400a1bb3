"""What each part of the method and of the trainer does in the toy world: `python -m benchmarks.ablations`.

The full method and runs with one thing changed, by the toy preset: their losses on held-out pictures as they
train, and then the demo's judges on 24 pictures of each emotion at guidance 3. A seed changes the data set,
the adapter's start and every draw. Finished runs are read, not made again.

L_SEM of a run with another semantic loss, or with other pseudo-words, is measured as that run measures it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring.answer import table
from benchmarks.toyruns import (
    Ground,
    Panel,
    drawn_by,
    ground,
    judged,
    kept,
    real,
    spread,
    trained,
    write_panels,
)
from coemogen_train.base.load import load_base
from coemogen_train.train.validation import VALIDATION_FILE, read_validation

FULL = "full method"
RUNS: dict[str, dict[str, Any]] = {
    FULL: {},
    "without L_SEM": {"semantic_weight": 0.0},
    "L_SEM on pooled states": {"semantic_loss": "pooled"},
    "without emotion LoRAs": {"emotion_loras": False},
    "without polarity LoRAs": {"polarity_loras": False},
    "mapper input: learned vector": {"mapper_input": "learned"},
    "mapper input: the name's embedding": {"mapper_input": "name"},
    "without content prompts": {"content_prompts": 0.0},
    "v_dropout 0.3": {"v_dropout": 0.3},
    "2 pseudo-words": {"tokens": 2},
    "1 visual token": {"visual_tokens": 1},
    "min_snr_gamma 5": {"min_snr_gamma": 5.0},
    "ema_decay 0.99": {"ema_decay": 0.99},
}
COLUMNS = {
    "val_ldm": ("val. L_LDM", 4),
    "val_semantic": ("val. L_SEM", 3),
    "emo_a": ("Emo-A", 2),
    "emo_a_second_probe": ("second probe", 2),
    "story": ("story", 2),
    "coverage": ("coverage of 6", 1),
    "frechet": ("Frechet", 1),
}


def run_one(out: Path, on: Ground, name: str, seed: int, steps: int) -> dict[str, Any]:
    """The figures of one run."""
    folder = out / f"seed{seed}" / "".join(c if c.isalnum() else "_" for c in name)

    def make() -> dict[str, Any]:
        began = time.monotonic()
        settings = {"set": on.training_set.root, "steps": steps, "seed": seed, **RUNS[name]}
        adapter = trained(folder, settings)
        seconds = time.monotonic() - began
        records = read_validation(folder / VALIDATION_FILE)
        return {
            "run": name,
            "seed": seed,
            "seconds": seconds,
            "validation": [[record.step, record.ldm, record.semantic] for record in records],
            "val_ldm": records[-1].ldm,
            "val_semantic": records[-1].semantic,
            **judged(on, drawn_by(adapter, load_base("toy"), on.names, seed), on.names),
        }

    return kept(folder.with_suffix(".json"), make)


def markdown(runs: dict[str, list[dict[str, Any]]], references: list[dict[str, Any]]) -> str:
    """A line per run: means over the seeds, and of several their range."""
    rows = []
    for name, of_seeds in {**runs, "real held-out pictures": references}.items():
        cells = [
            spread([run[key] for run in of_seeds], digits) if key in of_seeds[0] else ""
            for key, (_, digits) in COLUMNS.items()
        ]
        rows.append([name, *cells])
    return table(["run", *(head for head, _ in COLUMNS.values())], rows)


def write_curves(out: Path, runs: dict[str, list[dict[str, Any]]]) -> None:
    """A panel per change, beside the full method: means over the seeds."""
    for column, (file, y_name) in enumerate((("ldm", "L_LDM"), ("semantic", "L_SEM")), start=1):
        lines = {name: _mean_curve(of_seeds, column) for name, of_seeds in runs.items()}
        panels = [
            Panel("", {FULL: lines[FULL], name: line}, "step", f"{y_name}, held-out pictures")
            for name, line in lines.items()
            if name != FULL and FULL in lines
        ]
        if panels:
            write_panels(out / f"validation_{file}.svg", panels, columns=3)


def _mean_curve(of_seeds: Sequence[dict[str, Any]], column: int) -> list[tuple[float, float]]:
    curves = [run["validation"] for run in of_seeds]
    return [
        (points[0][0], sum(point[column] for point in points) / len(points))
        for points in zip(*curves, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ablations"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--only", nargs="+", choices=RUNS, metavar="RUN", help="some of the runs, by name")
    arguments = parser.parse_args()
    out, names = arguments.out.absolute(), arguments.only or list(RUNS)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    references = []
    for seed in range(arguments.seeds):
        on = ground(out / f"seed{seed}" / "set", seed)
        references.append(kept(out / f"seed{seed}" / "real.json", lambda on=on: real(on)))
        for name in names:
            runs[name].append(run_one(out, on, name, seed, arguments.steps))
    write_curves(out, runs)
    told = markdown(runs, references)
    (out / "ablations.md").write_text(told + "\n", encoding="utf-8")
    print(told)


if __name__ == "__main__":
    main()
