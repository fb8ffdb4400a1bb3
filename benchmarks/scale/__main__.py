"""What more processes bring, and whether they train the same: `python -m benchmarks.scale`.

The product's own step (forward, backward, gradients exchanged by DDP, the tally, AdamW) in 1, 2, and on GPUs
4, 8, ... processes, all on one machine. The effective batch is the same for all of them, as when a run goes
on with another number of processes: a process alone accumulates what several share. So all have micro-batches
of one size, and pictures per second are to be compared. Every process lives through all rounds, makes its run
before the first, and each round has each number of processes once.

On a CPU every process has one thread, so that two have twice the cores of one; beside it stands one process
with two threads. Data are made up and in memory: what a disk gives is not in the figures.

Before anything is timed, all of them do the same first steps, and what they have trained is compared: the
largest difference of a tensor's element, over the largest element of that tensor.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors.torch import load_file

from ..measuring.answer import Question, answer, bars, figure, progress, save_figure, table
from ..measuring.models import Size
from ..measuring.rounds import Spread, interleave

_COMPARED = 5  # steps


@dataclass(frozen=True)
class Case:
    """What is trained. batch: pictures that a process has at a time; steps: of a measurement."""

    size: Size
    resolution: int
    batch: int
    steps: int
    rounds: int
    precision: str = "fp32"

    def __str__(self) -> str:
        shape = {"toy": "the toy", "sd15": "SD 1.5's sizes"}[self.size]
        return f"{shape}, {self.resolution} px, {self.batch} at a time, {self.precision}"


class Group:
    """Processes that train together, started once; `ready` waits for them."""

    def __init__(self, case: Case, processes: int, most: int, device: str) -> None:
        """most: processes of the largest group, whose effective batch this one has too."""
        self.processes = processes
        settings = {
            "batch_size": case.batch,
            "accumulate": most // processes,
            "resolution": case.resolution,
            "precision": case.precision,
        }
        common: dict[str, object] = {}
        if processes > 1:  # one trains as anybody does: no launcher, no group
            common = {"WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _free_port()}
        if sys.platform == "win32":  # PyTorch's wheels have no libuv there
            common["USE_LIBUV"] = 0
        if device == "cpu":
            common |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": 1, "OMP_WAIT_POLICY": "PASSIVE"}
        told = json.dumps([case.size, settings, device])
        self._started: list[subprocess.Popen[str]] = []
        self._said: queue.Queue[tuple[int, str]] = queue.Queue()
        for rank in range(processes):
            who = common | ({"RANK": rank, "LOCAL_RANK": rank} if processes > 1 else {})
            self._started.append(
                subprocess.Popen(  # noqa: S603
                    [sys.executable, "-m", "benchmarks.scale.worker", told],
                    env=os.environ | {name: str(value) for name, value in who.items()},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    encoding="utf-8",
                )
            )
            threading.Thread(target=self._listen, args=(rank,), daemon=True).start()

    def __enter__(self) -> Group:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._started:
            assert process.stdin is not None  # noqa: S101
            if kind is None:
                process.stdin.close()
            else:
                process.kill()
        for process in self._started:
            process.wait()

    def ready(self) -> None:
        self._answers()

    def step(self, steps: int, threads: int | None = None) -> None:
        """Do so many steps; threads: of each process from now on, None: as they are."""
        self._tell({"steps": steps, "threads": threads})

    def save(self, file: Path) -> None:
        self._tell({"save": str(file)})

    def _tell(self, command: dict[str, Any]) -> None:
        for process in self._started:
            assert process.stdin is not None  # noqa: S101
            process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()
        self._answers()

    def _answers(self) -> None:
        """Wait for all. Raises: Failed as soon as one has ended: the others may wait for it for minutes."""
        awaited = set(range(self.processes))
        while awaited:
            rank, line = self._said.get()
            awaited.discard(rank)
            told = json.loads(line) if line else {"failed": "it ended before its time"}
            if isinstance(told, dict):
                raise Failed(f"process {rank + 1} of {self.processes}: {told['failed']}")

    def _listen(self, rank: int) -> None:
        out = self._started[rank].stdout
        assert out is not None  # noqa: S101
        for line in out:
            self._said.put((rank, line))
        self._said.put((rank, ""))


class Failed(Exception):
    """A process that could not do what it was told, with its reason."""


def measure(case: Case, counts: Sequence[int], device: str) -> dict[str, Any]:
    """One case as `--json` answers it. counts: numbers of processes, 1 the first. Raises: Failed."""
    most = max(counts)
    whole = case.batch * most
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        groups = {}
        for count in counts:
            progress(f"{case}: starting {count}")
            groups[count] = stack.enter_context(Group(case, count, most, device))
            groups[count].ready()
        differences = compare(groups, Path(folder))
        progress(f"{case}: after {_COMPARED} steps they differ by {differences}")
        threads = 1 if device == "cpu" else None
        works = {_named(count): partial(groups[count].step, case.steps, threads) for count in counts}
        if device == "cpu":
            works["1 process, 2 threads"] = partial(groups[1].step, case.steps, 2)
        found = interleave(works, case.rounds, told=_tell_progress)
    pictures = {
        name: Spread.of([whole * case.steps / seconds for seconds in found.seconds[name].values()])
        for name in works
    }
    return {
        "case": str(case),
        "effective_batch": whole,
        "pictures_per_second": pictures,
        "times_one_process": {
            name: found.ratio(_named(1), name) for name in found.seconds if name != _named(1)
        },
        "largest_relative_difference": {_named(count): share for count, share in differences.items()},
        "seconds": found.to_dict(),
    }


def measure_what_fits(
    case: Case, counts: Sequence[int], device: str, left_out: list[dict[str, str]]
) -> dict[str, Any] | None:
    """A case; on GPUs with half the pictures at a time, and half again, where it fails: the first GPU holds a
    process of each number of processes at once. None: nothing of it could be measured. What failed goes into
    `left_out`."""
    while True:
        try:
            return measure(case, counts, device)
        except Failed as reason:
            left_out.append({"case": str(case), "reason": str(reason)})
            progress(f"left out: {case}: {reason}")
        if device == "cpu" or case.batch == 1:
            return None
        case = replace(case, batch=case.batch // 2)


def compare(groups: dict[int, Group], folder: Path) -> dict[int, float]:
    """Do the first steps with all; give, by processes, the largest relative difference from one process."""
    trained = {}
    for count, group in groups.items():
        group.step(_COMPARED)
        group.save(file := folder / f"{count}.safetensors")
        trained[count] = load_file(file)
    alone = trained.pop(1)
    return {
        count: max(
            float((tensor - alone[name]).abs().max() / alone[name].abs().max().clamp(min=1e-12))
            for name, tensor in state.items()
        )
        for count, state in trained.items()
    }


def cases(quick: bool, device: str) -> list[Case]:
    """The toy; and in the long form SD 1.5's sizes, whose two forms take three processes of 5 GiB each."""
    if device == "cuda":
        found = [Case("toy", 64, 32, 20, 5), Case("sd15", 512, 8, 4, 3 if quick else 9, "bf16")]
        return found[:1] if quick else found
    if quick:
        return [Case("toy", 64, 8, 6, 5)]
    return [Case("toy", 64, 16, 10, 15), Case("sd15", 128, 1, 2, 7)]


def process_counts(device: str) -> list[int]:
    """1 and 2; on GPUs on, by doubling, to as many as there are."""
    if device == "cpu":
        return [1, 2]
    gpus = torch.cuda.device_count()
    return [2**power for power in range(gpus.bit_length()) if 2**power <= gpus]


def draw(measured: Sequence[dict[str, Any]], file: Path) -> None:
    """Pictures per second, a plot for each case."""
    drawn, axes = figure(width=5.5 * len(measured), height=2.6, columns=len(measured))
    for one, found in zip([axes] if len(measured) == 1 else axes, measured, strict=True):
        bars(one, found["pictures_per_second"], found["case"], "pictures per second")
    save_figure(drawn, file)


def in_words(measured: Sequence[dict[str, Any]], left_out: Sequence[dict[str, str]]) -> str:
    """The figures as Markdown, and what there are none of."""
    told = []
    for found in measured:
        differences = found["largest_relative_difference"]
        rows = [
            [
                name,
                str(spread),
                str(found["times_one_process"].get(name, "1")),
                f"{differences[name]:.1e}" if name in differences else "",
            ]
            for name, spread in found["pictures_per_second"].items()
        ]
        heads = ["", "pictures per second", "times one process", "largest relative difference"]
        told.append(f"{found['case']}, {found['effective_batch']} in a step\n\n{table(heads, rows)}")
    return "\n\n".join([*told, *(f"Left out: {one['case']}: {one['reason']}" for one in left_out)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask, measure, answer."""
    question = Question(__doc__, "scale")
    question.parser.add_argument("--case", choices=("toy", "sd15"), help="only this one of the long form")
    chosen: argparse.Namespace = question.ask(arguments)
    if chosen.device.type == "cuda" and torch.cuda.device_count() < 2:
        progress("one GPU alone: two processes cannot share it in NCCL, so both are measured on the CPU")
        chosen.device = torch.device("cpu")
    device = chosen.device.type
    todo = [case for case in cases(chosen.quick, device) if chosen.case in (None, case.size)]
    left_out: list[dict[str, str]] = []
    tried = [measure_what_fits(case, process_counts(device), device, left_out) for case in todo]
    measured = [found for found in tried if found is not None]
    first = measured[0]["times_one_process"][_named(2)] if measured else None
    differences = [found["largest_relative_difference"].values() for found in measured]
    told = {
        "two_processes_vs_one": first,
        "largest_relative_difference": max((max(found) for found in differences), default=None),
        "cases": measured,
        "left_out": left_out,
    }
    answer(chosen, "scale", told, in_words(measured, left_out))
    if measured:
        draw(measured, chosen.out / "scale.png")


def _named(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"


def _tell_progress(round_: int, name: str, seconds: float) -> None:
    progress(f"round {round_ + 1}: {name} {seconds:.2f} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
