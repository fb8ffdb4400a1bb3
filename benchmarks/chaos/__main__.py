"""Whether a training survives the night: `python -m benchmarks.chaos [--kills 50] [--quick] [--json]`.

Trains on a toy set once undisturbed, by the command line. Then runs the same training again and again, kills
it at random moments (SIGKILL, SIGTERM, Ctrl-C, Ctrl-C twice, by turns; from before the cache is made to the
very end; some while a file is being written), looks after every kill whether each file under a final name is
whole, goes on with --resume, kills it again, and compares adapter, history, validation, previews, newest
checkpoint and cache with the undisturbed run's, byte for byte. `resumed_equal` counts the kills whose run
ended so; `damaged_files` the files that were not whole after any of them. After that come the disasters of
other kinds: full disks, read-only folders, damaged shards and checkpoints, numbers that are none.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.chaos import damage, places
from benchmarks.chaos.disasters import Ground, stopped_half_way, try_all
from benchmarks.chaos.folder import STEPS, make_folder, result, unlike
from benchmarks.chaos.kills import Kill, Killed, kill_often, timed
from benchmarks.chaos.launch import SIGNALS, warm_up
from benchmarks.measuring.answer import Question, answer, figure, progress, save_figure

_QUICK_KILLS = 6
_MARKERS = dict(zip(SIGNALS, "XvoD", strict=True))


def main() -> None:
    question = Question(__doc__, "chaos")
    question.parser.set_defaults(device=torch.device("cpu"))
    question.parser.add_argument("--kills", type=int, default=50)
    question.parser.add_argument("--seed", type=int, default=0)
    question.parser.add_argument("--only", choices=("kills", "disasters"), help="one half of it")
    chosen = question.ask()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # other numbers of threads give other last bits
    if chosen.device.type == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        told = _tried(chosen, Path(folder))
    answer(chosen, "chaos", told, _words(told))
    if told["failed"]:
        sys.exit(1)


def _tried(chosen: Namespace, work: Path) -> dict[str, Any]:
    warm_up()
    clean = make_folder(work / "clean")
    progress("undisturbed, by the command line")
    first = clean.copy(work / "undisturbed")
    paces, whole = {True: timed(first, own=True)}, result(first)
    progress("undisturbed, forked")
    second = clean.copy(work / "undisturbed-again")
    paces[False] = timed(second, own=False)
    if differing := unlike(second, whole):
        raise SystemExit(f"two undisturbed runs differ: {', '.join(differing[:5])}")
    told: dict[str, Any] = {"steps": STEPS, "undisturbed_seconds": asdict(paces[True])}
    failed = []
    if chosen.only != "disasters":
        kills = _QUICK_KILLS if chosen.quick else chosen.kills
        runs = list(kill_often(clean, work, whole, paces, kills, chosen.seed))
        told |= _figures(runs)
        failed += [f"kill {number}" for number, kill in enumerate(_all(runs)) if not _in_order(kill)]
        _draw(runs, chosen.out / "chaos.png")
    if chosen.only != "kills":
        disasters = [*places.DISASTERS, *damage.DISASTERS]
        if chosen.quick:
            disasters = [disaster for disaster in disasters if disaster.quick]
        ground = Ground(clean, stopped_half_way(clean.copy(work / "half")), whole)
        told["disasters"] = try_all(disasters, ground, work)
        failed += [name for name, one in told["disasters"].items() if one["passed"] is False]
    return told | {"failed": failed}


def _figures(runs: Sequence[Killed]) -> dict[str, Any]:
    """The runs in figures, and every kill."""
    kills = _all(runs)
    return {
        "kills": len(kills),
        "runs": len(runs),
        "resumes": sum(run.resumes for run in runs),
        "resumed_equal": sum(kill.equal for kill in kills),
        "damaged_files": sum(len(kill.damaged) for kill in kills),
        "other_faults": [kill.fault for kill in kills if kill.fault],
        "differing": sorted({name for run in runs for name in run.differing}),
        "by_signal": dict(Counter(kill.signal for kill in kills)),
        "by_where": dict(Counter(kill.where for kill in kills)),
        "while_writing": sum(kill.writing for kill in kills),
        "by_command_line": sum(kill.own for kill in kills),
        "each": [asdict(kill) for kill in kills],
    }


def _all(runs: Sequence[Killed]) -> list[Kill]:
    return [kill for run in runs for kill in run.kills]


def _in_order(kill: Kill) -> bool:
    return kill.equal and not kill.damaged and not kill.fault


def _draw(runs: Sequence[Killed], file: Path) -> None:
    """A line per run, a mark per kill where its history was: before the first step they stand left of 0."""
    drawn, axes = figure(9.0, 1.6 + 0.24 * len(runs))
    chance = random.Random(0)
    for number, run in enumerate(runs):
        axes.plot([0, STEPS], [number, number], color="#ddd", linewidth=1, zorder=0)
        for kill in run.kills:
            stepping = kill.where in ("stepping", "ending")
            colour = "#2b6cb0" if _in_order(kill) else "#c2452d"
            x = kill.step if stepping or kill.step else -1 - 3 * chance.random()
            axes.scatter(
                *(x + 0.5 * chance.random(), number),
                marker=_MARKERS[kill.signal],
                s=46,
                facecolors=colour if stepping else "white",
                edgecolors="#222" if kill.writing else colour,
                linewidths=1.4,
            )
        axes.text(STEPS + 1.2, number, "OTHER" if run.differing else "equal", va="center", fontsize=8)
    for name, marker in _MARKERS.items():
        axes.scatter([], [], marker=marker, color="#2b6cb0", label=name)
    axes.scatter([], [], marker="o", facecolors="white", edgecolors="#2b6cb0", label="starting or loading")
    axes.scatter([], [], marker="o", facecolors="#2b6cb0", edgecolors="#222", label="writing a file")
    drawn.legend(loc="outside lower center", ncols=6, fontsize=8)
    axes.set(xlim=(-5, STEPS + 4), ylim=(len(runs) - 0.4, -0.6), xlabel="steps in the history when killed")
    axes.set(ylabel="run", title="Where the kills fell, and how their runs ended")
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(drawn, file)


def _words(told: dict[str, Any]) -> str:
    lines = []
    if "kills" in told:
        lines += [
            f"{told['kills']} kills in {told['runs']} runs, {told['resumes']} resumes: "
            f"{told['resumed_equal']} kills whose run ended byte-equal to the undisturbed one, "
            f"{told['damaged_files']} damaged files, {len(told['other_faults'])} other faults.",
            "",
            f"By signal: {_counted(told['by_signal'])}; by moment: {_counted(told['by_where'])}; "
            f"{told['while_writing']} while a file was being written; {told['by_command_line']} of commands "
            "started as a user does.",
            *(f"- {fault}" for fault in [*told["other_faults"], *told["differing"]]),
            "",
        ]
    marks = {True: "passed", False: "FAILED", None: "skipped"}
    lines += ["| disaster | | what was said |", "| --- | --- | --- |"] if "disasters" in told else []
    for name, one in told.get("disasters", {}).items():
        lines.append(f"| {name} | {marks[one['passed']]} | {one['sentence']} |")
    return "\n".join(lines)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


if __name__ == "__main__":
    main()
