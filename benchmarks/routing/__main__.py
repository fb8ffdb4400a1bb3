"""What it costs to train all emotions in one batch: `python -m benchmarks.routing`.

32 samples of all eight emotions, forward and backward through the frozen U-Net with gradients to the LoRAs
and to the condition, in rounds that have each form once:

- mixed: the product's stacked HiLoRA, 10 groups of rank 4 and a gate for each sample;
- plain: one LoRA of rank 8 for all samples; peft: the same by peft;
- gather: each sample's rows and columns picked from the stack, and batched products;
- loop: one emotion after another through the whole U-Net with a LoRA of rank 8, 4 samples each;
- masked loop: once through the U-Net, and in every layer one emotion after another, each adding its LoRA of
  rank 8 to its own samples;
- bare: nothing attached.

Before anything is timed, gather and both loops are compared with mixed in float32, outputs and gradients; the
command fails at the end where they differ (the quick form on a CPU compares on the toy alone). The models
have Stable Diffusion 1.5's sizes and random weights, or are the toy's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from coemogen_train.adapter.hilora import HiLoRA
from coemogen_train.base.model import BaseModel
from coemogen_train.emotions import MIKELS
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
from ..measuring.models import make_base, make_batch
from ..measuring.rounds import Rounds, Spread, interleave
from ..measuring.twins import twin
from ..step.sides import Case
from .forms import (
    Bare,
    Gathered,
    Inputs,
    Looped,
    Masked,
    Peft,
    Plain,
    Stacked,
    filled,
    in_type,
    largest_difference,
)

ROUTED = ("gather", "loop", "masked loop")  # what computes as mixed does
FORMS = ("bare", "plain", "peft", "mixed", *ROUTED)
RATIOS = {
    "mixed_vs_plain_lora": ("mixed", "plain"),
    "loop_vs_mixed": ("loop", "mixed"),
    "inner_loop_vs_mixed": ("masked loop", "mixed"),
    "gather_vs_mixed": ("gather", "mixed"),
    "mixed_vs_peft": ("mixed", "peft"),
    "mixed_vs_bare": ("mixed", "bare"),
}
MOST, LEAST = 1.05, 3.0  # mixed against plain, and the loop against mixed
Measured = tuple[Case, dict[str, Any]]
TOLERANCE = 1e-4
_HURRIED = ("mixed", "plain", "loop")  # within two minutes, at SD 1.5's shape on a CPU
# Enough to have all emotions once: equality does not hang on how many there are.
_CHECKED = 8


def make_inputs(base: BaseModel, count: int, resolution: int) -> Inputs:
    """A batch of all emotions by turns, and conditions of random numbers."""
    batch = make_batch(base, MIKELS, count, resolution)
    size = count, base.max_length, base.cross_attention_dim
    hidden = torch.randn(size, generator=torch.Generator().manual_seed(1)).to(base.device)
    inputs = Inputs(batch.latents, batch.timesteps, hidden, batch.emotion.argmax(1))
    return in_type(inputs, base.dtype)


def make_forms(base: BaseModel) -> dict[str, Bare]:
    """All forms, on twins of one U-Net and from the same matrices."""
    torch.manual_seed(0)
    hilora = filled(HiLoRA.for_unet(base.unet, MIKELS.polarity_of, 4)).to(base.device)
    return {
        "bare": Bare(twin(base.unet)),
        "plain": Plain(twin(base.unet), hilora),
        "peft": Peft(twin(base.unet)),
        "mixed": Stacked(twin(base.unet), hilora),
        "gather": Gathered(twin(base.unet), hilora),
        "loop": Looped(twin(base.unet), hilora),
        "masked loop": Masked(twin(base.unet), hilora),
    }


def check_equal(forms: dict[str, Bare], inputs: Inputs) -> dict[str, float]:
    """The largest relative difference from mixed, by form; in float32 at most `TOLERANCE`."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return {name: largest_difference(forms[name], forms["mixed"], inputs) for name in ROUTED}


def measure(case: Case, device: torch.device, rounds: int, quick: bool) -> dict[str, Any]:
    """One case as `--json` answers it; whether the forms are equal is asked in float32, of few samples."""
    hurried = quick and case.size == "sd15" and device.type == "cpu"
    progress(f"{case}: making weights")
    base = make_base(case.size, device)
    forms = make_forms(base)
    equal: dict[str, float] = {}
    if not hurried:  # the toy was asked
        equal = check_equal(forms, make_inputs(base, _CHECKED, 64))
        progress(f"{case}: {', '.join(ROUTED)} differ from mixed by at most {max(equal.values()):.1e}")
    if case.precision != "fp32":
        del base, forms  # before the next take their memory
        base = make_base(case.size, device, dtype_of(case.precision))
        forms = make_forms(base)
    inputs = make_inputs(base, case.batch, case.resolution)
    if hurried:
        small = make_inputs(base, 1, 64)
        for name in _HURRIED:
            forms[name].step(small)
    works = {
        name: partial(_several, partial(form.step, inputs), case.steps)
        for name, form in forms.items()
        if not hurried or name in _HURRIED
    }
    found = interleave(
        works,
        rounds,
        device,
        warm_up=1 if device.type == "cpu" else 2,
        every={"loop": rounds} if hurried else None,
        warmed=("mixed",) if hurried else None,
        told=lambda number, name, seconds: progress(
            f"{case}: round {number + 1}, {name}: {seconds / case.steps:.3g} s"
        ),
    )
    return {**_figures(found, case), "case": case.to_dict(), "on": device.type, "largest_difference": equal}


def _several(step: Callable[[], object], count: int) -> None:
    for _ in range(count):
        step()


def _figures(found: Rounds, case: Case) -> dict[str, Any]:
    timed = found.to_dict()
    there = [name for name in FORMS if name in timed]
    seconds = {name: Spread.of([each / case.steps for each in timed[name]]) for name in there}
    return {
        **{name: found.ratio(*pair) for name, pair in RATIOS.items() if timed.keys() >= set(pair)},
        "seconds": seconds,
        "seconds_by_round": found.to_dict(),
    }


def chosen_cases(chosen: argparse.Namespace) -> list[Case]:
    """The toy, and SD 1.5's shape at the resolutions at which 32 pictures fit."""
    cuda = chosen.device.type == "cuda"
    precision = chosen.precision or ("bf16" if cuda else "fp32")
    toy = Case("toy", 32, 64, "fp32", steps=2 if chosen.quick else 5)
    largest = 256 if cuda else 64 if chosen.quick else 128
    main = Case("sd15", 32, largest, precision, steps=5 if cuda else 1)
    half = replace(main, resolution=largest // 2)
    cases = {"toy": [toy], "sd15": [main] if chosen.quick else [main, half]}
    if chosen.batch or chosen.resolution:
        cases = {name: each[:1] for name, each in cases.items()}
    picked = cases[chosen.shape] if chosen.shape else [*cases["toy"], *cases["sd15"]]
    return [
        replace(case, batch=chosen.batch or case.batch, resolution=chosen.resolution or case.resolution)
        for case in picked
    ]


def words(found: Sequence[Measured]) -> str:
    """The figures for people."""
    rows = [
        [
            str(case),
            *(f"{told['seconds'][name].median:.3g}" if name in told["seconds"] else "" for name in FORMS),
            *(str(told.get(name, "")) for name in RATIOS),
        ]
        for case, told in found
    ]
    heads = ["", *(f"{name}, s" for name in FORMS), *RATIOS]
    note = "\nSeconds of a forward and backward pass, medians; ratios: median (lowest to highest) of rounds."
    return "\n".join([table(heads, rows) + note, *misses(found), *unequal(found)])


def misses(found: Sequence[Measured]) -> Iterator[str]:
    """A sentence on each figure that is not what was wished for, and why."""
    for case, told in found:
        if (share := told["mixed_vs_plain_lora"].median) > MOST:
            yield (
                f"{case}: mixed takes {share:.3g} times plain, over {MOST}: its stack has 40 ranks where "
                "plain has 8, five times the products, which weigh more the smaller the U-Net's own are."
            )
        if (times := told["loop_vs_mixed"].median) < LEAST:
            reason = _why_loops_are_cheap(told)
            yield f"{case}: the loop takes {times:.3g} times mixed, under {LEAST:g}: {reason}"


def _why_loops_are_cheap(told: dict[str, Any]) -> str:
    if told["case"]["size"] == "sd15" and told["on"] == "cpu":
        return (
            "on a CPU a small batch of a large U-Net computes as well as a large one, so that passes of few "
            "samples cost what their products cost."
        )
    return "a pass of one emotion's samples keeps the device busy enough."


def plot(found: Sequence[Measured], file: Path) -> None:
    """Seconds by form, a panel for each case."""
    drawn, axes = figure(4.8 * len(found), 3.4, len(found))
    for place, (case, told) in enumerate(found):
        panel = axes[place] if len(found) > 1 else axes
        bound = told["seconds"]["plain"].median * MOST
        bars(panel, told["seconds"], str(case), "seconds; dashed: the bound for mixed", bound)
    save_figure(drawn, file)


def told_of(found: Sequence[Measured]) -> dict[str, Any]:
    """What `--json` answers: SD 1.5's shape on top, the same of the toy and of other cases beside it."""
    of_toy = [told for case, told in found if case.size == "toy"]
    of_sd15 = [told for case, told in found if case.size == "sd15"]
    return {
        **(of_sd15[0] if of_sd15 else {}),
        **({"toy": of_toy[0]} if of_toy else {}),
        "others": of_sd15[1:],
        "not_equal": unequal(found),
    }


def unequal(found: Sequence[Measured]) -> list[str]:
    """A sentence on each form that does not compute what mixed does: its times tell nothing."""
    return [
        f"{case}: {name} differs from mixed by {share:.1e} of the largest value, over {TOLERANCE:.0e}"
        for case, told in found
        for name, share in told["largest_difference"].items()
        if not share <= TOLERANCE
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    question = Question(__doc__, "routing", needs=("peft",))
    add = question.parser.add_argument
    add("--rounds", type=int, help="default 5; quick 2 of SD 1.5's shape on a CPU, else 3")
    add("--shape", choices=("sd15", "toy"), help="default both")
    add("--batch", type=int, help="samples; default 32")
    add("--resolution", type=int, help="pixels; default 128 and 64, on a GPU 256 and 128; quick 64, 256")
    add("--precision", choices=("fp32", "bf16"), help="of SD 1.5's shape; default fp32, bf16 on a GPU")
    chosen = question.ask(arguments)
    found: list[Measured] = []
    for case in chosen_cases(chosen):
        few = 2 if case.size == "sd15" and chosen.device.type == "cpu" else 3
        rounds = chosen.rounds or (few if chosen.quick else 5)
        try:
            found.append((case, measure(case, chosen.device, rounds, chosen.quick)))
        except torch.cuda.OutOfMemoryError:
            progress(f"{case}: the GPU has not enough memory.")
        write_json(chosen, "routing", told_of(found))
    answer(chosen, "routing", told_of(found), words(found))
    plot_or_warn(plot, found, chosen.out / "routing.png")
    if wrong := unequal(found):
        raise SystemExit("; ".join(wrong))


if __name__ == "__main__":
    main()
