"""A base that predicts v at clip skip 2, as many fine-tunes do: `python -m benchmarks.variants --out DIR`.

Makes such a base of the bundled toy base (or takes the one in --base-work), trains an adapter on it, and
draws: the base by the emotions' names, the adapter with the settings it was trained with, and with wrong
ones, beside the warnings that `generate` gives then. Finished parts are read, not made again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from benchmarks.measuring.answer import table
from benchmarks.toyruns import (
    drawn,
    drawn_by,
    ground,
    judged,
    kept,
    real,
    spread,
    trained,
    write_sheet,
)
from coemogen_train.adapter.file import load_adapter
from coemogen_train.base.generate import setting_warnings
from coemogen_train.base.load import load_base
from coemogen_train.base.model import BaseModel
from coemogen_train.toyworld.contest import draw_from_prompts
from coemogen_train.toyworld.pretraining.velocity import CLIP_SKIP, make_velocity_base

WRONG: dict[str, dict[str, Any]] = {
    "clip skip 1": {"clip_skip": 1},
    "prediction taken as epsilon": {"clip_skip": CLIP_SKIP, "prediction_type": "epsilon"},
    "both": {"clip_skip": 1, "prediction_type": "epsilon"},
}


def run_seed(out: Path, folder: Path, steps: int, seed: int) -> dict[str, Any]:
    """Figures by row, and the warnings by wrong setting."""
    on = ground(out / "set", seed)
    settings = {"base": folder, "clip_skip": CLIP_SKIP, "set": on.training_set.root}
    adapter = load_adapter(trained(out / "run", {**settings, "steps": steps, "seed": seed}))
    right = load_base(folder, clip_skip=CLIP_SKIP)

    def named(base: BaseModel) -> list[Any]:
        return drawn(draw_from_prompts(base, lambda name, _: f"an image of {name}"), on.names, seed)

    pictures = {
        "v base, by name": named(right),
        "v base, by name, clip skip 1": named(load_base(folder)),
        "adapter, as it was trained": drawn_by(adapter, right, on.names, seed),
    }
    warnings = {"as it was trained": setting_warnings(right, adapter)}
    for title, wrong in WRONG.items():
        base = load_base(folder, **wrong)
        warnings[title] = setting_warnings(base, adapter)
        pictures[f"adapter, {title}"] = drawn_by(adapter, base, on.names, seed)
    write_sheet(out / "variants.png", pictures, on.names)
    info = adapter.info
    return {
        "rows": {"real held-out pictures": real(on)}
        | {row: judged(on, drawings, on.names) for row, drawings in pictures.items()},
        "warnings": warnings,
        "adapter_says": {
            "prediction_type": info.base.prediction_type,
            "clip_skip": info.text_encoders[0].clip_skip,
        },
    }


def markdown(runs: list[dict[str, Any]]) -> str:
    """The table, means over the seeds and of several their range; and the warnings."""
    keys = ("emo_a", "emo_a_second_probe", "story", "coverage", "frechet")
    rows = [
        [
            row,
            *(
                spread([run["rows"][row][key] for run in runs]) if key in runs[0]["rows"][row] else ""
                for key in keys
            ),
        ]
        for row in runs[0]["rows"]
    ]
    lines = [table(["row", "Emo-A", "second probe", "story", "coverage of 6", "Frechet"], rows), ""]
    for title, told in runs[0]["warnings"].items():
        lines += [f"{title}: {' '.join(told) or 'no warning'}", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/variants"))
    parser.add_argument("--base-work", type=Path, help="where the base is made; DIR/base-work by default")
    parser.add_argument("--base-steps", type=int, default=2500)
    parser.add_argument("--base-pictures", type=int, default=24_000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    out = arguments.out.absolute()
    work = (arguments.base_work or out / "base-work").absolute()
    work.mkdir(parents=True, exist_ok=True)

    def log(line: str) -> None:
        line = f"{time.strftime('%H:%M:%S')} {line}"
        print(line, flush=True)
        with (work / "log.txt").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    folder = make_velocity_base(work, arguments.base_steps, arguments.base_pictures, 0, log)
    runs = [
        kept(
            out / f"seed{seed}.json",
            lambda seed=seed: run_seed(out / f"seed{seed}", folder, arguments.steps, seed),
        )
        for seed in range(arguments.seeds)
    ]
    told = markdown(runs)
    (out / "variants.md").write_text(told, encoding="utf-8")
    print(told)


if __name__ == "__main__":
    main()
