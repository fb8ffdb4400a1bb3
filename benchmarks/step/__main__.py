"""A training step against what it could cost and what it costs elsewhere: `python -m benchmarks.step`.

Measured on one frozen U-Net, in rounds that have each of five once:

- floor: the bare U-Net forward and backward to its condition, nothing attached;
- ours: the product's own step at its default settings, batch, text encoder, losses and optimiser included;
- plain: a loop in the manner of diffusers' example (LoRA of rank 4), which encodes pictures and captions in
  every step;
- peft loop: the same loop with LoRA of rank 8, as many ranks as a picture of ours goes through;
- peft, encoded before: LoRA of rank 8 with latents and captions encoded before.

The models have Stable Diffusion 1.5's sizes and random weights, or are the toy's. On a GPU there is a table
of batches, precisions, compiled and checkpointed blocks as well (`--cases` for some of it); the answer on the
disk has each case as soon as it is measured. The quick form on a CPU has the loop of rank 8 below 512 pixels.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from coemogen_train.train.precision import dtype_of

from ..measuring.answer import (
    Question,
    answer,
    bars,
    figure,
    plot_or_warn,
    progress,
    save_figure,
    table,
    write_json,
)
from ..measuring.models import make_base
from ..measuring.rounds import Rounds, Spread, interleave, wait_for
from .cases import CASES, chosen_cases
from .sides import SIDES, WITHOUT_LOOPS, Case, LeftOut, Sides

# The quick form is over after two minutes; what is left over is for the plot and a slow disk.
QUICK_SECONDS = 108.0
QUICK_RESOLUTIONS = (512, 384, 256, 128)
PROBED = 256
BOUNDS = {"cpu": 1.15, "cuda": 1.10}
RATIOS = {
    "step_vs_floor": ("ours", "floor"),
    "pictures_vs_plain_loop": ("plain", "ours"),
    "pictures_vs_peft_loop": ("peft loop", "ours"),
    "peft_vs_floor": ("peft, encoded before", "floor"),
    "ours_vs_peft": ("ours", "peft, encoded before"),
}
# From here on the quick form cannot afford a second loop that encodes pictures.
_DEAR = 512
_TOY_SECONDS = 20.0
_WARM = 64  # pixels: enough to have loaded and made everything once


@dataclass(frozen=True)
class Measured:
    """A case and its seconds, in rounds; peak_gib: of our step on a GPU, weights included."""

    case: Case
    rounds: Rounds
    peak_gib: float | None = None

    def ratios(self) -> dict[str, Spread]:
        """Those of `RATIOS` of which both sides were measured."""
        there = self.rounds.seconds
        return {
            name: self.rounds.ratio(one, other)
            for name, (one, other) in RATIOS.items()
            if one in there and other in there
        }

    def seconds(self) -> dict[str, Spread]:
        """Of one step, by side."""
        return {
            name: Spread.of([seconds / self.case.steps for seconds in times])
            for name, times in self.rounds.to_dict().items()
        }

    def pictures(self) -> dict[str, Spread]:
        """Per second, by side."""
        return {
            name: Spread.of([self.case.batch * self.case.steps / seconds for seconds in times])
            for name, times in self.rounds.to_dict().items()
        }

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.ratios(),
            "case": self.case.to_dict(),
            "seconds_of_a_step": self.seconds(),
            "pictures_per_second": self.pictures(),
            "peak_gib_of_ours": self.peak_gib,
            "seconds_by_round": self.rounds.to_dict(),
        }


class Bench:
    """Measures cases; a base is kept for as long as the cases that come have the same."""

    def __init__(self, device: torch.device, folder: Path) -> None:
        self.device, self.folder = device, folder
        self._key: tuple[Any, ...] = ()
        self._sides: Sides | None = None

    def sides(self, case: Case) -> Sides:
        """The sides of a case."""
        key = case.size, case.precision, case.compiled
        if self._sides is None or key != self._key:
            self._sides = None  # its memory goes before the next takes its own
            self.clear()
            progress(f"weights of {case.size} in {case.precision}")
            base = make_base(case.size, self.device, dtype_of(case.precision))
            torch.nn.Module.to(base.vae, dtype_of(case.precision))  # as a run has it
            self._key, self._sides = key, Sides(base, self.folder, case.compiled)
        return self._sides

    def measure(self, case: Case, rounds: int, hurried: bool = False) -> Measured:
        """Measure a case; compiled or with checkpointing, floor and ours alone.

        hurried: only ours is warmed at the case's own size, the others at a small one; the loops and peft are
            measured once, and where a pass is dear the plain loop alone of them.
        """
        names = WITHOUT_LOOPS if case.compiled or case.checkpointed else SIDES
        if hurried and case.resolution >= _DEAR:
            names = tuple(name for name in names if name in ("floor", "ours", "plain"))
        sides = self.sides(case)
        if hurried:
            small = replace(case, resolution=_WARM, batch=min(case.batch, 2), steps=1)
            for work in sides.works(small, names).values():
                work()
        works = sides.works(case, names)
        peak = self._peak_gib(works["ours"])
        found = interleave(
            works,
            rounds,
            self.device,
            warm_up=1 if self.device.type == "cpu" else 2,
            every={name: rounds for name in names if name not in WITHOUT_LOOPS} if hurried else None,
            warmed=("ours",) if hurried else None,
            told=lambda number, name, seconds: progress(
                f"{case}: round {number + 1}, {name}: {seconds / case.steps:.3g} s"
            ),
        )
        return Measured(case, found, peak)

    def clear(self) -> None:
        """Give memory back that nothing holds."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if self._key and self._key[-1]:
            torch.compiler.reset()

    def _peak_gib(self, ours: Callable[[], None]) -> float | None:
        if self.device.type != "cuda":
            return None
        ours()  # the optimiser's moments, and what is compiled
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        ours()
        wait_for(self.device)
        return torch.cuda.max_memory_reserved(self.device) / 2**30


def fitting(bench: Bench, case: Case, seconds_left: float) -> Case:
    """The case in the largest resolution whose quick form is done in `seconds_left`.

    A pass at 256 pixels tells how fast the machine is.
    """
    sides = bench.sides(case)
    sides.works(replace(case, resolution=_WARM), ("floor",))["floor"]()  # the first pass of all is slow
    floor = sides.works(replace(case, resolution=PROBED), ("floor",))["floor"]
    begun = time.perf_counter()
    floor()
    probed = time.perf_counter() - begun
    for resolution in QUICK_RESOLUTIONS:
        # Attention grows faster than the number of pixels, but a small pass also reads all weights.
        expected = probed * (resolution / PROBED) ** 1.8
        # In floors: two of them, three of ours, one plain loop; of a smaller size peft and its loop too.
        passes = 7.2 if resolution >= _DEAR else 10.8
        if passes * expected < seconds_left or resolution == QUICK_RESOLUTIONS[-1]:
            return replace(case, resolution=resolution)
    return case


def _left(chosen: argparse.Namespace) -> float:
    """Seconds that the quick form still has."""
    return QUICK_SECONDS - (time.perf_counter() - float(chosen.begun))


def measure_all(
    chosen: argparse.Namespace, folder: Path, keep: Callable[[list[Measured], list[str]], object]
) -> tuple[list[Measured], list[str]]:
    """All cases, and a sentence on each that the machine cannot do; `keep` gets both after each case."""
    bench, found, left_out = Bench(chosen.device, folder), [], []
    quick_cpu = chosen.quick and chosen.device.type == "cpu"
    rounds = chosen.rounds or (2 if quick_cpu else 3 if chosen.quick else 5)
    # What the answer is about comes first where time is short.
    for case in sorted(chosen_cases(chosen), key=lambda case: quick_cpu and case.size == "toy"):
        hurried = quick_cpu and case.size == "sd15"
        try:
            if quick_cpu and not hurried and found and _left(chosen) < _TOY_SECONDS:
                raise LeftOut("no time is left of two minutes")
            if hurried and not chosen.resolution:
                bench.sides(case)
                case = fitting(bench, case, _left(chosen))
            found.append(bench.measure(case, rounds, hurried))
        except (torch.cuda.OutOfMemoryError, LeftOut) as fault:
            why = fault if isinstance(fault, LeftOut) else "the GPU has not enough memory"
            left_out.append(f"Left out: {case}: {why}.")
            progress(left_out[-1])
        keep(found, left_out)
        bench.clear()
    return found, left_out


def told_of(found: Sequence[Measured], left_out: Sequence[str]) -> dict[str, Any]:
    """What `--json` answers: SD 1.5's shape on top, the same of the toy and of other cases beside it."""
    of_sd15 = [measured for measured in found if measured.case.size == "sd15"]
    of_toy = [measured for measured in found if measured.case.size == "toy"]
    return {
        **(of_sd15[0].to_dict() if of_sd15 else {}),
        **({"toy": of_toy[0].to_dict()} if of_toy else {}),
        "others": [measured.to_dict() for measured in of_sd15[1:]],
        "left_out": list(left_out),
        "what_is_compared": (__doc__ or "").split("\n\n")[1:3],
    }


def words(found: Sequence[Measured], left_out: Sequence[str]) -> str:
    """The figures for people."""
    rows = []
    for measured in found:
        ratios, pictures, seconds = measured.ratios(), measured.pictures(), measured.seconds()
        rows.append(
            [
                str(measured.case),
                *(f"{seconds[name].median:.3g}" if name in seconds else "" for name in SIDES),
                f"{pictures['ours'].median:.3g}",
                *(f"{ratios[name]}" if name in ratios else "" for name in RATIOS),
                "" if measured.peak_gib is None else f"{measured.peak_gib:.1f}",
            ]
        )
    heads = ["", *(f"{name}, s" for name in SIDES), "ours, pictures/s", *RATIOS, "ours, GiB"]
    notes = "\nSeconds of one step, medians; ratios: median (lowest to highest) of rounds."
    return "\n".join([table(heads, rows), notes, *left_out])


def plot(found: Sequence[Measured], device: torch.device, file: Path) -> None:
    """Seconds of a step by side, a panel for each of the first cases of both shapes."""
    shown = [measured for measured in found if "plain" in measured.rounds.seconds][:3]
    if not shown:
        return
    drawn, axes = figure(4.6 * len(shown), 2.8, len(shown))
    for place, measured in enumerate(shown):
        seconds = measured.seconds()
        bound = seconds["floor"].median * BOUNDS.get(device.type, 1.15)
        panel = axes[place] if len(shown) > 1 else axes
        sides = {name: seconds[name] for name in SIDES if name in seconds}
        bars(panel, sides, str(measured.case), "seconds of a step; dashed: the bound for ours", bound)
    save_figure(drawn, file)


def main(arguments: Sequence[str] | None = None) -> None:
    question = Question(__doc__, "step", needs=("peft",))
    add = question.parser.add_argument
    add("--rounds", type=int, help="default 5; quick 2, 3 on a GPU")
    add("--shape", choices=("sd15", "toy"), help="default both")
    add("--batch", type=int, help="pictures; default 1, 4 on a GPU")
    add("--resolution", type=int, help="pixels; default 512")
    add("--precision", choices=("fp32", "bf16"), help="default fp32, bf16 on a GPU")
    add("--compile", action="store_true", help="the blocks of the U-Net, for ours and the floor")
    add("--cases", nargs="+", choices=CASES, help="only these; default main and smaller, on a GPU all others")
    chosen = question.ask(arguments)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        found, left_out = measure_all(
            chosen, Path(folder), lambda *so_far: write_json(chosen, "step", told_of(*so_far))
        )
    answer(chosen, "step", told_of(found, left_out), words(found, left_out))
    plot_or_warn(plot, found, chosen.device, chosen.out / "step.png")


if __name__ == "__main__":
    main()
