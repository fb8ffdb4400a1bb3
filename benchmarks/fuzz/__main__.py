"""Whether hostile input is refused in a sentence or read as it is: `python -m benchmarks.fuzz`.

Seven readers are given damaged things: adapter files (most of them signed again, so that what lies behind
the checksum is reached), settings, tables and data sets, texts (answers, captions, prompts, mixtures), the
replies of a caption server, checkpoints, and pictures. A case is "refused" by the reader's own error, whose
message fits on a screen, prints and, for an adapter, names the file; or "equal": what was read is what the
file says, and written again it says the same. Anything else has escaped: another error, a wrong value, a
crash, a hang, more than 2 seconds of the processor's time (3 for a data set) or, for an adapter, more memory
than twice its file and 16 MiB, in a process of its own.

Bytes and files are damaged by seeded mutators of ours, which take microseconds; settings and texts are drawn
by hypothesis. Everything follows from --seed, and a case from its number alone. What escaped is written to
OUT/escapes with its mutation, seed and number; --only TARGET --first NUMBER --count 1 runs it again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..measuring.answer import Question, answer, figure, progress, save_figure
from .adapters import AdapterTarget
from .cases import Outcome
from .folders import CheckpointTarget, PictureTarget
from .measured import MakeTarget, run_cases
from .server import ServerTarget
from .settings import SettingsTarget
from .tables import TableTarget
from .texts import TextTarget

# Of each: what reads it, and the cases in a whole run and in a quick one.
TARGETS: Mapping[str, tuple[MakeTarget, int, int]] = {
    "adapters": (AdapterTarget, 100_000, 3000),
    "settings": (SettingsTarget, 20_000, 400),
    "tables": (TableTarget, 20_000, 600),
    "texts": (TextTarget, 20_000, 400),
    "server": (ServerTarget, 5000, 150),
    "checkpoints": (CheckpointTarget, 10_000, 300),
    "pictures": (PictureTarget, 20_000, 500),
}
_SHOWN = 50
_COLOURS = {"refused": "#2b6cb0", "equal": "#7fb069", "escaped": "#c2452d"}


@dataclass
class Tally:
    """What became of a target's cases."""

    kinds: Counter[str] = field(default_factory=Counter)
    mutations: dict[str, Counter[str]] = field(default_factory=dict)
    escapes: list[Outcome] = field(default_factory=list)
    slowest: float = 0.0
    slowest_cpu: float = 0.0
    most_mib: float | None = None

    def add(self, outcome: Outcome) -> None:
        self.kinds[outcome.kind] += 1
        self.mutations.setdefault(outcome.mutation, Counter())[outcome.kind] += 1
        self.slowest = max(self.slowest, outcome.seconds)
        self.slowest_cpu = max(self.slowest_cpu, outcome.cpu_seconds)
        if outcome.mib is not None:
            self.most_mib = max(self.most_mib or 0.0, outcome.mib)
        if outcome.kind == "escaped":
            self.escapes.append(outcome)

    def to_dict(self) -> dict[str, Any]:
        return {
            "count": self.kinds.total(),
            **{kind: self.kinds[kind] for kind in _COLOURS},
            "slowest_seconds": round(self.slowest, 3),
            "slowest_cpu_seconds": round(self.slowest_cpu, 3),
            "most_memory_mib_beyond": None if self.most_mib is None else round(self.most_mib, 1),
            "by_mutation": {name: dict(found) for name, found in sorted(self.mutations.items())},
        }


def fuzz(name: str, count: int, seed: int, out: Path, first: int = 0) -> Tally:
    """Run cases of one target, and say how far it is."""
    tally, work = Tally(), Path(tempfile.mkdtemp(prefix="fuzz-", dir=_quick_folder()))
    try:
        cases = run_cases(TARGETS[name][0], seed, count, work / name, out / "escapes" / name, first)
        for number, outcome in enumerate(cases, start=1):
            tally.add(outcome)
            if outcome.kind == "escaped":
                progress(f"{name} {outcome.number} ({outcome.mutation}) ESCAPED: {outcome.told[:300]}")
            if number % 2000 == 0 or number == count:
                progress(f"{name}: {number} of {count}, {dict(tally.kinds)}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return tally


def _quick_folder() -> str | None:
    """Memory as a folder, where the system has one: a disk would be written to a hundred thousand times."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a fresh folder in it


def draw(tallies: Mapping[str, Tally], file: Path) -> None:
    """Shares of what became of the cases: of adapters by mutation, of the other targets as a whole."""
    rows = {name: tally.kinds for name, tally in tallies.items()}
    if "adapters" in tallies:
        found = tallies["adapters"].mutations
        rows |= {f"adapters: {name}": found[name] for name in sorted(found)}
    drawn, axes = figure(9, 1.2 + 0.22 * len(rows))
    for place, kinds in enumerate(rows.values()):
        left = 0.0
        for kind, colour in _COLOURS.items():
            share = kinds[kind] / max(1, kinds.total())
            axes.barh(place, share, left=left, color=colour, label=kind if place == 0 else None, height=0.75)
            left += share
        axes.text(1.01, place, f"{kinds.total():,}", va="center", fontsize=7)
    axes.set_yticks(range(len(rows)), list(rows), fontsize=7)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1)
    axes.set_xlabel("share of the cases")
    axes.set_title("Hostile input: refused, read as it is, or escaped", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.06), ncol=3, frameon=False, fontsize=8)
    save_figure(drawn, file)


def in_words(tallies: Mapping[str, Tally]) -> str:
    """A table for people."""
    lines = [
        "| target | cases | refused | equal | escaped | slowest, s | most memory beyond, MiB |",
        "|---" * 7 + "|",
    ]
    for name, tally in tallies.items():
        told = tally.to_dict()
        cells = [told[key] for key in ("count", "refused", "equal", "escaped", "slowest_seconds")]
        mib = told["most_memory_mib_beyond"]
        lines.append(f"| {name} | {' | '.join(map(str, cells))} | {'not measured' if mib is None else mib} |")
    for name, tally in tallies.items():
        lines += [f"\n{name} {o.number}, {o.mutation}: {o.told[:300]}" for o in tally.escapes[:_SHOWN]]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    question = Question(__doc__, "fuzz")
    question.parser.add_argument("--count", type=int, help="adapter files; the other targets in proportion")
    question.parser.add_argument("--seed", type=int, default=0)
    question.parser.add_argument("--first", type=int, default=0, help="number of the first case")
    question.parser.add_argument(
        "--only", choices=list(TARGETS), action="append", help="a target; may be repeated"
    )
    chosen = question.ask(arguments)
    tallies = {}
    for name in chosen.only or TARGETS:
        count = TARGETS[name][2 if chosen.quick else 1]
        if chosen.count is not None:
            share = 1.0 if chosen.only else count / TARGETS["adapters"][2 if chosen.quick else 1]
            count = max(1, round(chosen.count * share))
        tallies[name] = fuzz(name, count, chosen.seed, chosen.out, chosen.first)
    escapes = [
        {"target": name, "number": o.number, "mutation": o.mutation, "told": o.told[:1000]}
        for name, tally in tallies.items()
        for o in tally.escapes[:_SHOWN]
    ]
    told = {
        "fuzzed": sum(tally.kinds.total() for tally in tallies.values()),
        "fuzz_escaped": sum(tally.kinds["escaped"] for tally in tallies.values()),
        "seed": chosen.seed,
        "by_target": {name: tally.to_dict() for name, tally in tallies.items()},
        "escapes": escapes,
    }
    answer(chosen, "fuzz", told, in_words(tallies))
    draw(tallies, chosen.out / "fuzz.png")
    return 1 if told["fuzz_escaped"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
