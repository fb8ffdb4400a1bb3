"""How a benchmark is asked and how it answers: the same options everywhere, JSON, words and a plot."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from coemogen_train.files import atomic_path, atomic_write_text

from .machine import best_device, describe, fault_of, in_a_line, load
from .rounds import Spread

RESULTS = Path("benchmarks/results")
INSTALL = 'pip install "coemogen[benchmarks]"'


class Question:
    """The command line of a benchmark: `--quick`, `--json`, `--out`, `--device`, and what it adds.

    Use: `question = Question(__doc__, "step")`, `question.parser.add_argument(...)`, `told = question.ask()`.
    needs: packages without which it cannot measure; plots are left out without matplotlib.
    """

    def __init__(self, doc: str | None, name: str, needs: Sequence[str] = ()) -> None:
        self.name, self.needs = name, needs
        self.parser = argparse.ArgumentParser(
            prog=f"python -m benchmarks.{name}",
            description=doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.parser.add_argument("--quick", action="store_true", help="within two minutes on two cores")
        self.parser.add_argument("--json", action="store_true", help="print one JSON object")
        self.parser.add_argument("--out", type=Path, help=f"folder; default {RESULTS / name}")
        self.parser.add_argument("--device", type=_device, default=None, help="cpu, cuda, cuda:1")

    def ask(self, arguments: Sequence[str] | None = None) -> argparse.Namespace:
        """Read the command line; `device` and `out` are filled in, `load` is how busy the machine was.

        Raises:
            SystemExit: status 2 and one sentence, where a package or the device is missing.
        """
        chosen = self.parser.parse_args(arguments)
        if missing := [package for package in self.needs if find_spec(package) is None]:
            named = " and ".join(missing)
            self.parser.exit(2, f"benchmarks.{self.name} needs {named}, not installed here: {INSTALL}\n")
        if find_spec("matplotlib") is None:
            progress(f"There will be no plot, since matplotlib is not installed: {INSTALL}")
        chosen.device = chosen.device or best_device()
        if fault := fault_of(chosen.device):
            self.parser.exit(2, f"--device {chosen.device}: {fault}\n")
        chosen.load = load()
        chosen.out = (chosen.out or RESULTS / self.name).absolute()
        chosen.begun = time.perf_counter()
        return chosen


def answer(chosen: argparse.Namespace, name: str, told: Mapping[str, Any], words: str) -> None:
    """Write `<name>.json` into the folder and print it, or `words` for people; to be called before any plot.

    Args:
        told: figures by name; see `write_json`. words: Markdown.
    """
    whole = write_json(chosen, name, told)
    if chosen.json:
        print(json.dumps(whole), flush=True)
    else:
        print(
            f"{words.rstrip()}\n\n{in_a_line(whole['machine'])}\n{chosen.out / (name + '.json')}", flush=True
        )


def write_json(chosen: argparse.Namespace, name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """Write what is known so far into `<name>.json` of the folder, and give what was written.

    Args:
        told: figures by name; a `Spread` becomes median, low and high. The machine, the seconds that all took
            and whether it was the quick form stand beside them.
    """
    whole = {
        **{key: _plain(value) for key, value in told.items()},
        "benchmark": name,
        "quick": bool(chosen.quick),
        "seconds_in_all": round(time.perf_counter() - chosen.begun, 1),
        "machine": describe(chosen.device, chosen.load),
    }
    chosen.out.mkdir(parents=True, exist_ok=True)
    atomic_write_text(chosen.out / f"{name}.json", json.dumps(whole, indent=1) + "\n")
    return whole


def plot_or_warn(plot: Callable[..., None], *given: Any) -> None:
    """Call `plot(*given)` when the figures are told; without a plot they are still worth having.

    matplotlib may be missing or broken in any way: whatever it raises is one line of warning.
    """
    try:
        plot(*given)
    except Exception as fault:
        reason = " ".join(str(fault).split())
        progress(f"No plot, the figures stand without it: {type(fault).__name__}: {reason} ({INSTALL})")


def progress(text: str) -> None:
    """Say on standard error how far a benchmark is."""
    print(text, file=sys.stderr, flush=True)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *rows))


def figure(width: float = 8.0, height: float = 4.0, columns: int = 1) -> tuple[Any, Any]:
    """A figure of matplotlib without a window, and its axes (an array where there are several columns)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(1, columns, figsize=(width, height), layout="constrained")


def save_figure(drawn: Any, file: Path) -> None:
    """Write a figure as PNG or SVG, whole or not at all; equal figures are equal bytes."""
    from matplotlib import pyplot

    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as part:
        metadata = {"Date": None} if file.suffix == ".svg" else {"Software": None}
        drawn.savefig(part, format=file.suffix[1:], dpi=140, metadata=metadata)
    pyplot.close(drawn)


def bars(
    axes: Any, spreads: Mapping[str, Spread], title: str, x_name: str, line: float | None = None
) -> None:
    """Horizontal bars of medians with whiskers from the lowest to the highest; line: where a bound is."""
    names = list(spreads)
    for place, name in enumerate(names):
        spread = spreads[name]
        reach = [[spread.median - spread.low], [spread.high - spread.median]]
        axes.barh(place, spread.median, xerr=reach, color="#2b6cb0", ecolor="#444", capsize=3, height=0.6)
        axes.text(spread.high, place, f"  {spread.median:.3g}", va="center", fontsize=9)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x_name)
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    if line is not None:
        axes.axvline(line, color="#c2452d", linestyle="--", linewidth=1)


def _device(text: str) -> torch.device:
    try:
        return torch.device(text)
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"{text!r} names no device: cpu, cuda, cuda:1") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Spread):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, (Path, torch.device, torch.dtype)) else value
