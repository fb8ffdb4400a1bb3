"""Whether time and memory keep up with the data: `python -m benchmarks.data_scale [--quick] [--work DIR]`.

Makes two sets' worth of tiny pictures, 10,000 and EmoSet's 118,102, and measures what each command takes per
thousand samples, and its memory at most, as processes of their own: `prepare` (from a table and from
folders), `filter` by a similarity column, the cache through stand-ins that cost nothing, and an epoch's
reading; `filter` with the toy CLIP on fewer, because there the CLIP's own time is what is measured. Large to
small as a ratio is what should be near 1 (asked: at most 1.2). Then two processes against one: whether they
leave the same bytes, and how long they take.

`net` seconds leave out what the same command takes for a set of 16: Python's start and the imports, which
flatter the large set. Sizes up to 20,000 are measured `--repeats` times (median, and from lowest to highest),
larger ones once.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.data_sets import differences, write_pictures
from benchmarks.processes import Measured, coemogen, measure, measure_crew
from benchmarks.toyruns import table

SIZES, QUICK = (10_000, 118_102), (1_000, 5_000)
CLIP_SIZES, QUICK_CLIP = (1_000, 10_000), (200, 1_000)
START = 16  # pictures in the set by which starting is measured
REPEATED_UP_TO = 20_000

Runner = Callable[[list[str]], list[Measured]]


@dataclass
class Stage:
    """A command's figures by the number of pictures, one entry per repeat."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    peak: dict[int, list[float]] = field(default_factory=dict)
    anonymous: dict[int, list[float]] = field(default_factory=dict)

    def add(self, size: int, found: list[Measured], seconds: float | None = None) -> None:
        """Note a run; of several processes the one that took most memory counts."""
        self.seconds.setdefault(size, []).append(found[0].seconds if seconds is None else seconds)
        self.peak.setdefault(size, []).append(max(one.peak for one in found))
        known = [one.anonymous for one in found if one.anonymous is not None]
        if known:
            self.anonymous.setdefault(size, []).append(max(known))

    def net(self, size: int) -> float:
        """Median seconds without those of starting."""
        starting = statistics.median(self.seconds.get(START, [0.0]))
        return max(statistics.median(self.seconds[size]) - starting, 1e-9)

    def to_dict(self, small: int, large: int) -> dict[str, Any]:
        """All figures, and the ratios of large to small."""
        per_thousand = {
            size: 1000 * statistics.median(values) / size for size, values in self.seconds.items()
        }
        ratios = {
            "time": per_thousand[large] / per_thousand[small],
            "net time": (self.net(large) / large) / (self.net(small) / small),
            "peak": statistics.median(self.peak[large]) / statistics.median(self.peak[small]),
        }
        if self.anonymous:
            ratios["anonymous"] = statistics.median(self.anonymous[large]) / statistics.median(
                self.anonymous[small]
            )
        told = {"seconds": self.seconds, "peak_mib": self.peak, "anonymous_mib": self.anonymous}
        return {**told, "seconds_per_thousand": per_thousand, "ratios": ratios}


def reading(task: str, folder: Path) -> list[str]:
    """The command line of `data_reading`."""
    return [sys.executable, "-m", "benchmarks.data_reading", task, str(folder)]


def alone(command: list[str]) -> list[Measured]:
    """A command as one process."""
    return [measure(command)]


def pair(command: list[str]) -> list[Measured]:
    """A command as two processes of one launch."""
    return measure_crew(command, 2)


def chain(source: Path, target: Path) -> list[tuple[str, list[str]]]:
    """The commands that make a set, filter it and fill its cache, in order."""
    return [
        ("prepare, table", coemogen("prepare", source, "--out", target)),
        ("filter, column", coemogen("filter", target, "--column", "similarity")),
        ("cache, stand-ins", reading("cache", target)),
    ]


def fresh(folder: Path) -> Path:
    """An absent folder by this name."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def measure_size(stages: dict[str, Stage], work: Path, size: int) -> None:
    """Every stage once with so many pictures."""
    source = write_pictures(work / f"pictures-{size}", size)
    target = fresh(work / "sets" / f"{size}")
    for name, command in chain(source, target):
        note(stages, name, size, alone(command))
    found = measure(reading("read", target))
    note(stages, "opening for training", size, [found], found.answer["opening"])
    note(stages, "an epoch's reading", size, [found], found.answer["reading"])
    folders = fresh(work / "sets" / f"{size}-folders")
    note(
        stages,
        "prepare, folders",
        size,
        alone(coemogen("prepare", source.parent / "pictures", "--out", folders)),
    )
    shutil.rmtree(folders)


def measure_clip(stages: dict[str, Stage], work: Path, size: int) -> None:
    """`filter` with the toy CLIP, which has to see every picture and caption."""
    source = write_pictures(work / f"pictures-{size}", size)
    target = fresh(work / "sets" / f"{size}-clip")
    measure(coemogen("prepare", source, "--out", target))
    note(stages, "filter, toy CLIP", size, alone(coemogen("filter", target, "--vision", "toy")))


def note(
    stages: dict[str, Stage], name: str, size: int, found: list[Measured], seconds: float | None = None
) -> None:
    """Keep a run's figures, and say so."""
    stages.setdefault(name, Stage()).add(size, found, seconds)
    told = found[0].seconds if seconds is None else seconds
    print(f"{name}, {size}: {told:.1f} s, {max(one.peak for one in found):.0f} MiB", file=sys.stderr)


def two_against_one(work: Path, size: int) -> dict[str, Any]:
    """The chain by one process and by two: seconds of each command, and which files differ."""
    source = write_pictures(work / f"pictures-{size}", size)
    seconds: dict[str, dict[str, float]] = {}
    targets = {"one": fresh(work / "crews" / "one"), "two": fresh(work / "crews" / "two")}
    for crew, run in (("one", alone), ("two", pair)):
        for name, command in chain(source, targets[crew]):
            seconds.setdefault(name, {})[crew] = run(command)[0].seconds
    differing = differences(targets["one"], targets["two"])
    return {
        "pictures": size,
        "equal": not differing,
        "differing": differing[:10],
        "seconds": seconds,
        "ratios": {name: found["two"] / found["one"] for name, found in seconds.items()},
    }


def markdown(told: dict[str, Any]) -> str:
    """The figures for people."""
    rows = []
    for name, stage in told["stages"].items():
        small, large = stage["sizes"]
        for size in (small, large):
            seconds, peak = stage["seconds"][size], statistics.median(stage["peak_mib"][size])
            anonymous = stage["anonymous_mib"].get(size)
            spread = f" ({min(seconds):.1f} to {max(seconds):.1f})" if len(seconds) > 1 else ""
            rows.append(
                [
                    name if size == small else "",
                    str(size),
                    f"{statistics.median(seconds):.1f}{spread}",
                    f"{stage['seconds_per_thousand'][size]:.3f}",
                    f"{peak:.0f}",
                    f"{statistics.median(anonymous):.0f}" if anonymous else "-",
                ]
            )
        rows.append([f"  ratio: {ratio_line(stage['ratios'])}", "", "", "", "", ""])
    lines = [table(["stage", "pictures", "seconds", "s per 1000", "peak MiB", "anonymous MiB"], rows), ""]
    two = told["two_processes"]
    ratios = ", ".join(f"{name} {value:.2f}" for name, value in two["ratios"].items())
    same = "the same bytes" if two["equal"] else f"OTHER BYTES: {', '.join(two['differing'])}"
    lines += [f"Two processes against one, {two['pictures']} pictures: {same}; seconds two / one: {ratios}."]
    return "\n".join([*lines, told["machine"]]) + "\n"


def ratio_line(ratios: dict[str, float]) -> str:
    """The ratios in a row, those above what is asked marked."""
    return ", ".join(f"{name} {value:.2f}{' (!)' if value > 1.2 else ''}" for name, value in ratios.items())


def run_all(work: Path, quick: bool, repeats: int) -> dict[str, Any]:
    """Everything, the small sizes first."""
    small, large = QUICK if quick else SIZES
    clip_small, clip_large = QUICK_CLIP if quick else CLIP_SIZES
    stages: dict[str, Stage] = {}
    for size in (START, small, large):
        for _ in range(repeats if size <= REPEATED_UP_TO else 1):
            measure_size(stages, work, size)
    for size in (START, clip_small, clip_large):
        for _ in range(repeats):
            measure_clip(stages, work, size)
    told = {}
    for name, stage in stages.items():
        sizes = (clip_small, clip_large) if name == "filter, toy CLIP" else (small, large)
        told[name] = {"sizes": sizes, **stage.to_dict(*sizes)}
    return {
        "stages": told,
        "two_processes": two_against_one(work, small),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} logical cores, "
        f"{platform.system()}, Python {platform.python_version()}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1,000 and 5,000 pictures")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=Path, help="keeps the pictures for another time; about 2 GB")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        work = (arguments.work or Path(made)).absolute()
        told = run_all(work, arguments.quick, arguments.repeats)
        if arguments.work is not None:
            (work / "data_scale.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    print(json.dumps(told) if arguments.json else markdown(told))


if __name__ == "__main__":
    main()
