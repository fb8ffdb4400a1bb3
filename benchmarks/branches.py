"""HiLoRA on one branch of the guidance, or on both: `python -m benchmarks.branches --out DIR`.

Trains adapters of the toy world and draws every emotion with HiLoRA on the conditional branch alone
(the loader's negative_strength 0) and on both (1), at several guidance scales: what it does to accuracy, to
the stories told and how many, and to saturation and contrast beside the real held-out pictures. The loader's
default is what this says. Finished parts are read, not made again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from benchmarks.measuring.answer import table
from benchmarks.toyruns import (
    EACH,
    Panel,
    figures,
    ground,
    intended,
    kept,
    real,
    spread,
    trained,
    write_panels,
    write_sheet,
)
from coemogen_train.adapter.file import load_adapter
from coemogen_train.base.load import load_base
from coemogen_train.base.sampling import SamplingSettings
from coemogen_train.toyworld.contest import draw_from_adapter

GUIDANCES = (1.5, 3.0, 5.0, 7.5)
Branches = Literal["conditional", "both"]
STRENGTH_OF: dict[Branches, int] = {"conditional": 0, "both": 1}
COLUMNS = ("emo_a", "emo_a_second_probe", "story", "coverage", "frechet", "saturation", "contrast")


def colours(pictures: Sequence[Image.Image]) -> dict[str, float]:
    """Mean saturation (HSV, 0 to 1), and mean standard deviation of a picture's brightness (0 to 1)."""
    hsv = np.stack([np.asarray(picture.convert("HSV"), dtype=float) / 255 for picture in pictures])
    return {"saturation": float(hsv[..., 1].mean()), "contrast": float(hsv[..., 2].std(axis=(1, 2)).mean())}


def run_seed(out: Path, steps: int, seed: int) -> dict[str, Any]:
    """Figures by branches and guidance, and those of real pictures."""
    on = ground(out / "set", seed)
    settings = {"base": "toy", "set": on.training_set.root, "steps": steps, "seed": seed}
    adapter = load_adapter(trained(out / "run", settings))
    base = load_base("toy")
    rows: dict[str, dict[str, Any]] = {"real": real(on) | colours(on.judges.test_pictures)}
    sheet: dict[str, list[Image.Image]] = {}
    for branches in get_args(Branches):
        for guidance in GUIDANCES:
            draw = draw_from_adapter(base, adapter, branches)
            sampling = SamplingSettings(steps=20, guidance=guidance, batch_size=48)
            pictures = draw(intended(on.names), 1_000_000 + 10_000 * seed, sampling)
            verdict = on.judges.judge("", pictures, intended(on.names), "ours", "", guidance)
            rows[row_name(branches, guidance)] = figures(verdict) | colours(pictures)
            sheet[row_name(branches, guidance)] = pictures
    write_sheet(out / "branches.png", sheet, on.names)
    return {"rows": rows}


def row_name(branches: Branches, guidance: float) -> str:
    """A row of the table."""
    return f"negative_strength {STRENGTH_OF[branches]}, guidance {guidance:g}"


def markdown(runs: Sequence[dict[str, Any]]) -> str:
    """Means over the seeds, with the lowest and the highest."""
    heads = ("row", "Emo-A", "second probe", "story", "coverage of 6", "Frechet", "saturation", "contrast")
    rows = [
        [row, *(spread([run["rows"][row][key] for run in runs]) if key in told else "" for key in COLUMNS)]
        for row, told in runs[0]["rows"].items()
    ]
    return table(heads, rows) + f"\n\n{8 * EACH} pictures a row and seed, {len(runs)} seeds\n"


def plot(file: Path, runs: Sequence[dict[str, Any]]) -> None:
    """Accuracy, stories and saturation against guidance, for both strengths."""

    def track(branches: Branches, key: str) -> list[tuple[float, float]]:
        return [
            (guidance, float(np.mean([run["rows"][row_name(branches, guidance)][key] for run in runs])))
            for guidance in GUIDANCES
        ]

    panels = [
        Panel(
            title,
            {
                "negative_strength 1": track("both", key),
                "negative_strength 0": track("conditional", key),
            },
            "guidance",
            title,
        )
        for title, key in (("Emo-A", "emo_a"), ("story", "story"), ("saturation", "saturation"))
    ]
    write_panels(file, panels, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/branches"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    out = arguments.out.absolute()
    start = time.monotonic()
    runs = []
    for seed in range(arguments.seeds):
        folder = out / f"seed{seed}"
        runs.append(
            kept(
                folder / "figures.json",
                lambda folder=folder, seed=seed: run_seed(folder, arguments.steps, seed),
            )
        )
    told = markdown(runs)
    out.mkdir(parents=True, exist_ok=True)
    (out / "branches.md").write_text(told, encoding="utf-8")
    plot(out / "branches.svg", runs)
    print(told)
    print(f"{time.monotonic() - start:.0f} s; {out}")


if __name__ == "__main__":
    main()
