"""Where the time of a step beyond the floor goes: `python -m benchmarks.profiles --page docs/profile.md`.

Profiles whole steps of ours and of the floor (the bare frozen U-Net, forward and backward to its condition)
by turns, and gives every operator's own time to the part of the step that called for it, forward and
backward. Beside it stands the ratio of unprofiled steps, since a profiler costs time too. `--page` writes the
page with its tables and pictures anew; without it they lie in the folder of the results. On a GPU the times
are those of kernels, and the time in which none runs is a part of its own.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from coemogen_train.emotions import MIKELS

from ..measuring.answer import Question, answer, plot_or_warn, progress
from ..measuring.machine import describe, in_a_line
from ..measuring.models import make_base, make_batch
from ..measuring.rounds import Spread, interleave
from ..measuring.stepping import VISION_WIDTH
from ..step.sides import Case, Floor, Ours, Sides
from .page import draw_parts, draw_timeline, page
from .parts import CHECKS, IDLE, PARTS, UNET, StepProfile, marked, profile_step


@dataclass(frozen=True)
class CaseProfile:
    """Profiles of one case.

    ratio: ours to the floor, of steps that no profiler watched. floor, ours: seconds by (part, backward).
    operators: name -> (floor, ours), median seconds. sample: one step of ours, for the timeline.
    """

    case: Case
    ratio: Spread
    seconds: dict[str, Spread]
    floor: dict[tuple[str, bool], Spread]
    ours: dict[tuple[str, bool], Spread]
    operators: dict[str, tuple[float, float]]
    sample: StepProfile

    def beyond(self) -> dict[tuple[str, bool], float]:
        """Median seconds of each part of ours less what the floor has of it; the parts that ours has."""
        return {
            key: spread.median - (self.floor[key].median if key in self.floor else 0.0)
            for key, spread in self.ours.items()
        }

    def to_dict(self) -> dict[str, Any]:
        return {
            "case": self.case.to_dict(),
            "step_vs_floor_in_profile": self.ratio,
            "seconds": self.seconds,
            "floor": {_named(key): spread for key, spread in self.floor.items()},
            "ours": {_named(key): spread for key, spread in self.ours.items()},
            "beyond_floor": {_named(key): seconds for key, seconds in self.beyond().items()},
            "operators": self.operators,
        }


def cases(quick: bool, device: torch.device) -> list[tuple[Case, int]]:
    """What is profiled, and in how many rounds."""
    if device.type == "cuda":
        return [(Case("sd15", 4, 512, "bf16"), 3 if quick else 9), (Case("toy", 32, 64), 3 if quick else 9)]
    real = Case("sd15", 1, 64 if quick else 512)
    return [(real, 3), (Case("toy", 32, 64), 3 if quick else 9)]


def profile_case(case: Case, rounds: int, device: torch.device, folder: Path) -> CaseProfile:
    """Step without a profiler, then with it, floor and ours by turns."""
    base = make_base(case.size, device, torch.bfloat16 if case.precision == "bf16" else torch.float32)
    sides = Sides(base, folder)
    floor = Floor(sides.bare, base, make_batch(base, MIKELS, case.batch, case.resolution, VISION_WIDTH))
    ours = Ours(base, sides.objective, case, folder)
    timed = interleave({"floor": floor.step, "ours": ours.step}, rounds, device)
    progress(f"{case}: ours {timed.ratio('ours', 'floor')} of the floor")
    found: dict[str, list[StepProfile]] = {"floor": [], "ours": []}
    order = random.Random(0)
    with marked(ours.run, ours.history):
        for _ in range(rounds):
            for name in order.sample(sorted(found), 2):
                step, rest = (floor.step, UNET) if name == "floor" else (ours.step, CHECKS)
                found[name].append(profile_step(step, device, rest))
    sides.objective.attached.remove()
    names = {name for steps in found.values() for step in steps for name in step.operators}
    return CaseProfile(
        case=case,
        ratio=timed.ratio("ours", "floor"),
        seconds={name: timed.spread(name) for name in ("floor", "ours")},
        floor=_parts(found["floor"]),
        ours=_parts(found["ours"]),
        operators={
            name: (_median_of(found["floor"], name), _median_of(found["ours"], name))
            for name in sorted(names)
        },
        sample=found["ours"][-1],
    )


def _parts(steps: list[StepProfile]) -> dict[tuple[str, bool], Spread]:
    spreads = {}
    for part in PARTS:
        for backward in (False, True):
            seconds = [(step.backward if backward else step.forward).get(part, 0.0) for step in steps]
            if any(seconds):
                spreads[part, backward] = Spread.of(seconds)
    return spreads


def _median_of(steps: list[StepProfile], operator: str) -> float:
    return Spread.of([step.operators.get(operator, 0.0) for step in steps]).median


def _named(key: tuple[str, bool]) -> str:
    return f"{key[0]}, backward" if key[1] else key[0]


def idle_share(profiled: CaseProfile) -> float | None:
    """The share of a step in which no kernel runs, waiting for the next to be launched; None off a GPU."""
    idle = profiled.ours.get((IDLE, False))
    return None if idle is None else idle.median / sum(spread.median for spread in profiled.ours.values())


def main(arguments: Sequence[str] | None = None) -> None:
    question = Question(__doc__, "profiles")
    question.parser.add_argument("--page", type=Path, help="Markdown file to write, its pictures beside it")
    chosen = question.ask(arguments)
    profiled = []
    for case, rounds in cases(chosen.quick, chosen.device):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            profiled.append(profile_case(case, rounds, chosen.device, Path(folder)))
    target = chosen.page or chosen.out / "profile.md"
    words = page(profiled, in_a_line(describe(chosen.device, chosen.load)))
    told: dict[str, Any] = {one.case.size: one.to_dict() for one in profiled}
    told["step_vs_floor_in_profile"] = profiled[0].ratio
    told["idle_share"] = {one.case.size: idle_share(one) for one in profiled}
    answer(chosen, "profiles", told, words)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(words, encoding="utf-8", newline="\n")
    for one in profiled:
        plot_or_warn(draw_parts, one, target.with_name(f"profile-{one.case.size}.png"))
        plot_or_warn(draw_timeline, one, target.with_name(f"profile-{one.case.size}-timeline.png"))


if __name__ == "__main__":
    main()
