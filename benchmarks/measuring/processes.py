"""A command in a process of its own: its answer, its seconds, and how much memory it took at most."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_POLL = 0.02
_MIB = 2**20


@dataclass(frozen=True)
class Measured:
    """What a process did. answer: its last line of JSON. seconds: by the clock; cpu: that it computed, on all
    cores together, which a busy machine changes least. peak: MiB of resident memory at most, files mapped
    into it included; anonymous: MiB at most without these, None where the system does not tell."""

    answer: dict[str, Any]
    seconds: float
    cpu: float
    peak: float
    anonymous: float | None


def coemogen(*arguments: str | Path) -> list[str]:
    """The command line of one of our commands, answering as JSON."""
    return [sys.executable, "-m", "coemogen_train", *map(str, arguments), "--json"]


def quiet_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment, offline, in which waiting threads do not spin."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE", **(extra or {})}


def measure(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Measured:
    """Run a command to its end. Raises: SystemExit with its log, where it fails."""
    return measure_all([(command, environment)])[0]


def measure_crew(command: Sequence[str], count: int) -> list[Measured]:
    """Run the same command as `count` processes that know of each other, as `accelerate launch` starts
    them; their seconds are those until the last has ended."""
    ranks = [{"RANK": str(rank), "WORLD_SIZE": str(count)} for rank in range(count)]
    return measure_all([(command, rank) for rank in ranks])


def measure_all(commands: Sequence[tuple[Sequence[str], Mapping[str, str] | None]]) -> list[Measured]:
    """Run commands at the same time, each to its end."""
    started = time.perf_counter()
    processes = [
        subprocess.Popen(  # noqa: S603
            list(command),
            env=quiet_environment(extra),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
        for command, extra in commands
    ]
    watches = [_Watch(process.pid) for process in processes]
    told: list[tuple[str, str]] = [("", "")] * len(processes)

    def read(number: int) -> None:
        told[number] = processes[number].communicate()

    readers = [threading.Thread(target=read, args=(number,)) for number in range(len(processes))]
    for reader in readers:
        reader.start()
    while any(reader.is_alive() for reader in readers):
        for watch in watches:
            watch.look()
        time.sleep(_POLL)
    seconds = time.perf_counter() - started
    for process, (out, log) in zip(processes, told, strict=True):
        if process.returncode:
            raise SystemExit(f"{process.args!r} failed:\n{out}\n{log[-4000:]}")
    return [
        Measured(
            _answer(out), seconds, watch.cpu, watch.peak / _MIB, watch.anonymous and watch.anonymous / _MIB
        )
        for (out, _), watch in zip(told, watches, strict=True)
    ]


def _answer(out: str) -> dict[str, Any]:
    lines = out.strip().splitlines()
    found = json.loads(lines[-1]) if lines else {}
    return found if isinstance(found, dict) else {}


class _Watch:
    """The highest memory of a process as seen from outside, in bytes, and its seconds of computing."""

    def __init__(self, pid: int):
        self._pid = pid
        self._process: psutil.Process | None = None
        self.cpu = 0.0
        self.peak: int = 0
        self.anonymous: int | None = None

    def look(self) -> None:
        """Look once; a process that has ended changes nothing."""
        try:
            self._process = self._process or psutil.Process(self._pid)
            times = self._process.cpu_times()
            self.cpu = max(self.cpu, times.user + times.system)
            told = self._linux() if sys.platform == "linux" else self._elsewhere()
        except (psutil.Error, OSError, ValueError, KeyError):
            return
        peak, anonymous = told
        self.peak = max(self.peak, peak)
        if anonymous is not None:
            self.anonymous = max(self.anonymous or 0, anonymous)

    def told(self, answer: dict[str, Any], seconds: float) -> Measured:
        """All that was seen."""
        anonymous = None if self.anonymous is None else self.anonymous / _MIB
        return Measured(answer, seconds, self.cpu, self.peak / _MIB, anonymous)

    def _linux(self) -> tuple[int, int]:
        # VmHWM is the system's own peak; that of anonymous memory it does not keep.
        text = Path(f"/proc/{self._pid}/status").read_text(encoding="ascii", errors="replace")
        lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        return tuple(int(lines[key].split()[0]) * 1024 for key in ("VmHWM", "RssAnon"))  # type: ignore[return-value]

    def _elsewhere(self) -> tuple[int, int | None]:
        memory = psutil.Process(self._pid).memory_info()
        return getattr(memory, "peak_wset", memory.rss), getattr(memory, "private", None)
