"""Processes that train together, started as a launcher starts them: told who they are by the environment."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

# argv: settings, what else to do. Prints what this process wrote in the run's folder, as JSON.
_RANK = """
import json, os, sys
from pathlib import Path
settings, how = json.loads(sys.argv[1]), json.loads(sys.argv[2])
rank, out, wrote = int(os.environ["RANK"]), settings["out"], []
WRITES = {f"os.{name}" for name in ("mkdir", "rename", "remove", "rmdir", "link", "symlink", "truncate")}

def spy(event, arguments):
    path = arguments[0] if arguments else None
    if event != "open" and event not in WRITES or not isinstance(path, (str, bytes, os.PathLike)):
        return
    reads = event == "open" and isinstance(arguments[2], int) and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if not reads and os.fsdecode(path).startswith(out):
        wrote.append(f"{event} {os.fsdecode(path)}")

sys.addaudithook(spy)
from coemogen_train.train import loop
from coemogen_train.train.config import make_config
from coemogen_train.train.lost_processes import ProcessLost

whole = loop.optimise
def optimise(run, step):
    if [rank, step] == how.get("dies"):
        os._exit(9)
    if [rank, step] == how.get("freezes"):
        import signal
        os.kill(os.getpid(), signal.SIGSTOP)
    return whole(run, step)

loop.optimise = optimise
code = 0
try:
    loop.train(make_config(settings), resume=how.get("resume", False), progress=False)
except ProcessLost as lost:
    print(lost, file=sys.stderr)
    code = ProcessLost.CODE
print(json.dumps(wrote))
sys.exit(code)
"""


@dataclass(frozen=True)
class Ended:
    """How a process ended. wrote: what it did to the run's folder; None where it could not say so."""

    code: int
    errors: str
    wrote: list[str] | None


def launch(settings: dict, processes: int, waits_for: int | None = None, **how: object) -> list[Ended]:
    """Train by `processes` on this machine.

    how: resume=True; dies=[process, step], at which it ends at once; freezes, alike. waits_for: the process
    whose end ends the others, as launchers end them.
    """
    common = {"WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _free_port()}
    with ExitStack() as stack:
        # Files, since nobody reads the pipe of one while the other is waited for.
        said = [
            [stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8")) for _ in ("out", "err")]
            for _ in range(processes)
        ]
        started = []
        for rank, (out, err) in enumerate(said):
            who = {**common, "RANK": rank, "LOCAL_RANK": rank, "ACCELERATE_USE_CPU": "true"}
            started.append(
                subprocess.Popen(
                    [sys.executable, "-c", _RANK, json.dumps(settings), json.dumps(how)],
                    cwd=Path(__file__).parents[2],
                    env=os.environ | {name: str(value) for name, value in who.items()},
                    stdout=out,
                    stderr=err,
                )
            )
        if waits_for is not None:
            started[waits_for].wait(timeout=300)
            for number, process in enumerate(started):
                if number != waits_for:
                    process.kill()
        codes = [process.wait(timeout=600) for process in started]
        return [_ended(code, *map(_read, files)) for code, files in zip(codes, said, strict=True)]


def _read(file: TextIO) -> str:
    file.seek(0)
    return file.read()


def _ended(code: int, answer: str, errors: str) -> Ended:
    lines = answer.splitlines()
    return Ended(code, errors, json.loads(lines[-1]) if lines else None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
