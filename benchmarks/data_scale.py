"""Whether time and memory keep up with the data: `python -m benchmarks.data_scale [--quick] [--work DIR]`.

Makes two sets' worth of tiny pictures, 10,000 and EmoSet's 118,102, and measures what each command takes per
thousand samples, and its memory at most, as processes of their own: `prepare` (from a table and from
folders), `filter` by a similarity column, the cache through stand-ins that cost nothing, and an epoch's
reading; `filter` with the toy CLIP on fewer, because there the CLIP's own time is what is measured. Large to
small as a ratio is what should be near 1 (asked: at most 1.2). Then two processes against one: whether they
leave the same bytes, and how long they take.

CPU seconds are those that a busy machine changes least; `net` ones leave out what the same command takes for
a set of 16, Python's start and the imports, which flatter the large set. Sizes up to 20,000 are measured
`--repeats` times (median, and from lowest to highest), larger ones once.
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

import psutil

from benchmarks.data_sets import differences, write_pictures
from benchmarks.measuring.answer import table
from benchmarks.measuring.processes import Measured, coemogen, measure, measure_crew

SIZES, QUICK = (10_000, 118_102), (1_000, 5_000)
CLIP_SIZES, QUICK_CLIP = (1_000, 10_000), (200, 1_000)
START = 16  # pictures in the set by which starting is measured
REPEATED_UP_TO = 20_000
_MEASURABLE = 0.5  # seconds; less says nothing about its growth

Runner = Callable[[list[str]], list[Measured]]


@dataclass
class Stage:
    """A command's figures by the number of pictures, one entry per repeat."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    cpu: dict[int, list[float]] = field(default_factory=dict)
    peak: dict[int, list[float]] = field(default_factory=dict)
    anonymous: dict[int, list[float]] = field(default_factory=dict)

    def add(self, size: int, found: Measured, part: str = "") -> None:
        """Note a run, or that part of it whose seconds its answer tells."""
        self.seconds.setdefault(size, []).append(found.answer[part] if part else found.seconds)
        self.cpu.setdefault(size, []).append(found.answer[f"{part}_cpu"] if part else found.cpu)
        self.peak.setdefault(size, []).append(found.peak)
        if found.anonymous is not None:
            self.anonymous.setdefault(size, []).append(found.anonymous)

    def to_dict(self, small: int, large: int) -> dict[str, Any]:
        """All figures, and the ratios of large to small."""
        ratios = {"time": _growth(self.seconds, small, large), "CPU": _growth(self.cpu, small, large)}
        net = {
            size: [value - _median(self.cpu, START) for value in self.cpu[size]] for size in (small, large)
        }
        if _median(net, small) > _MEASURABLE:
            ratios["net CPU"] = _growth(net, small, large)
        ratios["peak"] = _median(self.peak, large) / _median(self.peak, small)
        if self.anonymous:
            ratios["anonymous"] = _median(self.anonymous, large) / _median(self.anonymous, small)
        per_thousand = {size: 1000 * _median(self.seconds, size) / size for size in self.seconds}
        return {
            "seconds": self.seconds,
            "cpu_seconds": self.cpu,
            "peak_mib": self.peak,
            "anonymous_mib": self.anonymous,
            "seconds_per_thousand": per_thousand,
            "ratios": ratios,
        }


def _median(values: dict[int, list[float]], size: int) -> float:
    return statistics.median(values[size])


def _growth(values: dict[int, list[float]], small: int, large: int) -> float:
    """What a picture takes of a large set, by what it takes of a small one."""
    return (_median(values, large) / large) / (_median(values, small) / small)


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
        note(stages, name, size, measure(command))
    found = measure(reading("read", target))
    note(stages, "opening for training", size, found, "opening")
    note(stages, "an epoch's reading", size, found, "reading")
    folders = fresh(work / "sets" / f"{size}-folders")
    command = coemogen("prepare", source.parent / "pictures", "--out", folders)
    note(stages, "prepare, folders", size, measure(command))
    shutil.rmtree(folders)


def measure_clip(stages: dict[str, Stage], work: Path, size: int) -> None:
    """`filter` with the toy CLIP, which has to see every picture and caption."""
    source = write_pictures(work / f"pictures-{size}", size)
    target = fresh(work / "sets" / f"{size}-clip")
    measure(coemogen("prepare", source, "--out", target))
    note(stages, "filter, toy CLIP", size, measure(coemogen("filter", target, "--vision", "toy")))


def note(stages: dict[str, Stage], name: str, size: int, found: Measured, part: str = "") -> None:
    """Keep a run's figures, and say so."""
    stage = stages.setdefault(name, Stage())
    stage.add(size, found, part)
    told = f"{stage.seconds[size][-1]:.1f} s, {stage.cpu[size][-1]:.1f} s of computing, {found.peak:.0f} MiB"
    print(f"{name}, {size}: {told}", file=sys.stderr)


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
                    f"{_median(stage['cpu_seconds'], size):.1f}",
                    f"{stage['seconds_per_thousand'][size]:.3f}",
                    f"{peak:.0f}",
                    f"{statistics.median(anonymous):.0f}" if anonymous else "-",
                ]
            )
        rows.append([f"  ratio: {ratio_line(stage['ratios'])}", "", "", "", "", "", ""])
    lines = [
        table(["stage", "pictures", "seconds", "computing", "s per 1000", "peak MiB", "anonymous MiB"], rows),
        "",
    ]
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
        "machine": f"{platform.processor() or platform.machine()}, {psutil.cpu_count(logical=False)} cores "
        f"({os.cpu_count()} logical), "
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
