"""Whether a killed command loses nothing: `python -m benchmarks.data_kills [--kills 20] [--quick]`.

Runs `prepare`, `caption` (a tiny local model without sampling), `filter` and `cache` on tiny pictures, each
once undisturbed; then kills it (SIGKILL; on Windows it is terminated) at so many random moments, spread over
the time in which the undisturbed run wrote, runs it again, and compares every file of the set and its cache
with the undisturbed run's, byte for byte. Only .work, where unfinished work lies, and locks do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.data_sets import differences, write_pictures
from benchmarks.measuring.processes import quiet_environment
from coemogen_train.files import PART_PREFIX

_POLL = 0.01
_TRIES = 4  # a run may end before its moment comes; then an earlier one is taken


class Process(Protocol):
    """A command under way."""

    @property
    def returncode(self) -> int | None:
        """None while it runs."""

    def poll(self) -> int | None:
        """Look whether it has ended."""

    def wait(self) -> int:
        """Wait for its end; its exit code."""

    def kill(self) -> None:
        """End it at once."""


Launch = Callable[[Sequence[str]], Process]
"""The arguments of one of our commands -> the command under way."""


@dataclass(frozen=True)
class Victim:
    """A command that shall be killed. arguments: on a set; before: the set that it begins with, None for an
    absent one."""

    name: str
    arguments: Callable[[Path], list[str]]
    before: Path | None


@dataclass(frozen=True)
class Undisturbed:
    """What a run left that nobody killed. first, last: seconds until it first wrote, and until its end."""

    set: Path
    first: float
    last: float


@dataclass(frozen=True)
class Kill:
    """One kill. moment: seconds after its first write. hit: it still ran. left, torn: how many files it had
    written by then, and how many of these were under way. differing: files unlike the undisturbed run's."""

    moment: float
    hit: bool
    left: int
    torn: int
    differing: tuple[str, ...]


def launch(arguments: Sequence[str]) -> Process:
    """A command as a user starts it, silent; its errors go where ours go."""
    command = [sys.executable, "-m", "coemogen_train", *arguments, "--json"]
    return subprocess.Popen(  # noqa: S603
        command, env=quiet_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def victims(work: Path, pictures: int, model: Path, start: Launch) -> list[Victim]:
    """The four commands: on folders, on a set of these, and on a set whose captions came with it."""
    table = write_pictures(work / "source", pictures)
    bare, captioned = work / "sets" / "bare", work / "sets" / "captioned"
    for source, out in ((table.parent / "pictures", bare), (table, captioned)):
        if not out.exists() and start(["prepare", str(source), "--out", str(out)]).wait():
            raise SystemExit(f"prepare {source} failed")
    plain = ["--device", "cpu"]
    return [
        Victim("prepare", lambda to: ["prepare", str(table.parent / "pictures"), "--out", str(to)], None),
        Victim(
            "caption",
            lambda to: ["caption", str(to), "--model", str(model), *plain],
            bare,
        ),
        Victim("filter", lambda to: ["filter", str(to), "--vision", "toy", *plain], captioned),
        Victim(
            "cache",
            lambda to: ["cache", str(to), "--base", "toy", "--vision", "toy", *plain],
            captioned,
        ),
    ]


def undisturbed(victim: Victim, work: Path, start: Launch) -> Undisturbed:
    """Run a command to its end, and watch when it writes. Raises: SystemExit where it fails."""
    target = _fresh(work / victim.name / "undisturbed", victim.before)
    before = _look(target)
    process, started, first = start(victim.arguments(target)), time.perf_counter(), None
    while process.poll() is None:
        if first is None and _look(target) != before:
            first = time.perf_counter() - started
        time.sleep(_POLL)
    last = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"{victim.name} failed undisturbed: {' '.join(victim.arguments(target))}")
    return Undisturbed(target, last if first is None else first, last)


def kill_once(victim: Victim, work: Path, start: Launch, whole: Undisturbed, share: float) -> Kill:
    """Kill a command after this share (0..1) of its writing time, run it again, and compare.

    The time runs from its first write on: how long Python takes to start says nothing, and varies most.
    """
    target = work / victim.name / "killed"
    for attempt in range(_TRIES):
        _fresh(target, victim.before)
        before = _look(target)
        moment = share * 0.7**attempt * (whole.last - whole.first)
        process = start(victim.arguments(target))
        while process.poll() is None and _look(target) == before:
            time.sleep(_POLL)
        time.sleep(moment)
        hit = process.poll() is None
        process.kill()
        process.wait()
        if hit:
            break
    left = _look(target).difference(before)
    torn = sum(Path(path).name.startswith(PART_PREFIX) for path, *_ in left)
    if start(victim.arguments(target)).wait():
        raise SystemExit(f"{victim.name} failed when it was run again: {' '.join(victim.arguments(target))}")
    return Kill(moment, hit, len(left), torn, tuple(differences(whole.set, target)))


def kill_often(
    victim: Victim, work: Path, start: Launch, kills: int, seed: int = 0
) -> tuple[Undisturbed, list[Kill]]:
    """One undisturbed run, and `kills` killed ones: one at random in each stretch of the writing time."""
    whole = undisturbed(victim, work, start)
    chance = random.Random(f"{seed} {victim.name}")
    found = []
    for number in range(kills):
        share = (number + chance.random()) / kills
        found.append(kill_once(victim, work, start, whole, share))
        told = "as undisturbed" if not found[-1].differing else f"OTHER: {found[-1].differing[:5]}"
        print(f"{victim.name} {number + 1}/{kills}: {found[-1].moment:.2f} s, {told}", file=sys.stderr)
    return whole, found


def _fresh(target: Path, before: Path | None) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    if before is not None:
        shutil.copytree(before, target)
    return target


def _look(folder: Path) -> set[tuple[str, int, int]]:
    """Every file by path, size and time; whatever goes meanwhile is not there."""
    found = set()
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                state = os.stat(os.path.join(root, name))
            except OSError:
                continue
            found.add((os.path.join(root, name), state.st_size, state.st_mtime_ns))
    return found


def summary(whole: Undisturbed, kills: Sequence[Kill]) -> dict[str, Any]:
    """A command's kills in figures."""
    bad = [kill for kill in kills if kill.differing]
    return {
        "kills": sum(kill.hit for kill in kills),
        "missed": sum(not kill.hit for kill in kills),
        "resumed_equal": sum(kill.hit and not kill.differing for kill in kills),
        "differing": sorted({name for kill in bad for name in kill.differing})[:20],
        "moments": [round(kill.moment, 3) for kill in kills],
        "first_write": whole.first,
        "undisturbed_seconds": whole.last,
        "files_left": [kill.left for kill in kills],
        "files_under_way": sum(kill.torn for kill in kills),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="per command")
    parser.add_argument("--quick", action="store_true", help="5 kills per command, fewer pictures")
    parser.add_argument("--pictures", type=int, default=1200)
    parser.add_argument("--commands", default="prepare,caption,filter,cache")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    from tests.captions.tiny_vlm import make_llava

    kills, pictures = (5, 300) if arguments.quick else (arguments.kills, arguments.pictures)
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for victim in victims(work, pictures, make_llava(work / "model"), launch):
            if victim.name in arguments.commands.split(","):
                whole, found = kill_often(victim, work, launch, kills, arguments.seed)
                told[victim.name] = summary(whole, found)
    if arguments.json:
        print(json.dumps({"pictures": pictures, "commands": told}))
        return
    for name, figures in told.items():
        left = statistics.median(figures["files_left"])
        print(
            f"{name}: {figures['kills']} kills, {figures['resumed_equal']} resumed to equal bytes; "
            f"undisturbed {figures['undisturbed_seconds']:.1f} s, first write after "
            f"{figures['first_write']:.1f} s; a killed run left {left:g} files (median), "
            f"{figures['files_under_way']} of all under way"
            + (f"; DIFFERING: {', '.join(figures['differing'])}" if figures["differing"] else "")
        )


if __name__ == "__main__":
    main()
