"""Which cases of a step are measured: the toy, SD 1.5's shape, and on a GPU a table of its forms."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

from .sides import Case

CASES = ("main", "smaller", "batches", "checkpointed", "compiled", "fp32", "toy")
# Nobody trains a large batch or in half precision on a CPU.
_OF_CPU = ("main", "smaller")
_OF_GPU = ("main", "batches", "checkpointed", "compiled", "fp32")


def chosen_cases(chosen: argparse.Namespace) -> list[Case]:
    """What is measured; the first of SD 1.5's shape is the one that the answer is about."""
    cuda = chosen.device.type == "cuda"
    precision = chosen.precision or ("bf16" if cuda else "fp32")
    steps = 1 if not cuda else 3 if precision == "fp32" else 10
    toy = Case("toy", 32, 64, "fp32", steps=2 if chosen.quick else 10)
    main = Case("sd15", chosen.batch or (4 if cuda else 1), chosen.resolution or 512, precision, steps=steps)
    toy, main = (replace(case, compiled=chosen.compile) for case in (toy, main))
    if chosen.shape == "toy":
        return [replace(toy, batch=chosen.batch or 32, resolution=chosen.resolution or 64)]
    groups = {"toy": [toy], **_groups(main, cuda)}
    return [case for name in dict.fromkeys(_named(chosen, cuda)) for case in groups[name]]


def _named(chosen: argparse.Namespace, cuda: bool) -> Sequence[str]:
    """The groups that are asked for, or those that a device has unasked, the toy first."""
    if chosen.cases:
        return tuple(chosen.cases)
    if chosen.batch or chosen.resolution or chosen.precision or chosen.compile:
        return ("main",)
    named = ("main",) if chosen.quick else _OF_GPU if cuda else _OF_CPU
    return named if chosen.shape else ("toy", *named)


def _groups(main: Case, cuda: bool) -> dict[str, list[Case]]:
    """The cases of SD 1.5's shape by the name that `--cases` has for them."""
    counts = sorted({1, main.batch, 8}) if cuda else [main.batch]
    single = [replace(main, batch=count, precision="fp32", steps=min(main.steps, 3)) for count in counts]
    return {
        "main": [main],
        "smaller": [replace(main, resolution=main.resolution // 2)],
        "batches": [replace(main, batch=count) for count in counts if count != main.batch],
        "checkpointed": [replace(main, batch=count, checkpointed=True) for count in counts],
        "compiled": [replace(main, batch=count, compiled=True) for count in counts],
        "fp32": single if main.precision != "fp32" else [main],
    }
