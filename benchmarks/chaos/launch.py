"""A training as a process: by the real command line, or forked from a server that has imported everything."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import psutil

from benchmarks.measuring.processes import quiet_environment

Signal = Literal["SIGKILL", "SIGTERM", "SIGINT", "SIGINT twice"]
SIGNALS: tuple[Signal, ...] = ("SIGKILL", "SIGTERM", "SIGINT", "SIGINT twice")
Condition = Literal["from the disk", "small files"]
"""What a command is put under: the cache is read from the disk row by row, as a large one is; or no file may
grow past `FILE_LIMIT` bytes, where the system can be told so."""

FILE_LIMIT = 1 << 20
# So long after a first Ctrl-C people press it again.
_AGAIN = 0.05
_LONGEST = 300.0
# What training spends its first seconds on; where processes can be forked, it is imported once.
_PRELOADED = [
    "accelerate",
    "coemogen_train.base.load",
    "coemogen_train.base.vision",
    "coemogen_train.train.loop",
    "diffusers.models.autoencoders.autoencoder_kl",
    "diffusers.models.unets.unet_2d_condition",
    "diffusers.schedulers.scheduling_ddim",
    "safetensors.torch",
    "torch.distributed",
    "transformers.models.clip.modeling_clip",
]


class Training:
    """A command under way; what it says stands in the file `log`.

    Arguments:
        own: as a user starts it, imports and all; else forked, where the system can (else started alike).
        under: see `Condition`; such a command is never a user's own.
    """

    def __init__(
        self, arguments: Sequence[str], log: Path, own: bool = False, under: Condition | None = None
    ):
        self.own = under is None and (own or not _can_fork())
        self._log, self.begun = log, time.time()
        log.parent.mkdir(parents=True, exist_ok=True)
        self._process: Any = (
            _started(arguments, log) if self.own else _forked([*map(str, arguments)], str(log), under)
        )

    @property
    def code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.poll() if isinstance(self._process, subprocess.Popen) else self._process.exitcode

    @property
    def said(self) -> str:
        """All that it wrote to standard output and standard error."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait(self) -> int:
        """Wait for its end; its exit code. Raises: TimeoutError where it hangs, after ending it."""
        deadline = time.monotonic() + _LONGEST
        while (code := self.code) is None:
            if time.monotonic() > deadline:
                self._process.kill()
                raise TimeoutError(f"a training hung; its log is {self._log}")
            time.sleep(0.01)
        return code

    def send(self, which: Signal) -> None:
        """Send a signal. On Windows, SIGTERM and Ctrl-C are Ctrl-Break: there is nothing else to send."""
        if which == "SIGKILL":
            self._process.kill()
            return
        number = getattr(signal, which.split()[0])
        if os.name == "nt":
            number = signal.CTRL_BREAK_EVENT  # type: ignore[attr-defined]
        for turn in range(2 if which.endswith("twice") else 1):
            time.sleep(turn * _AGAIN)
            if self.code is None:
                os.kill(self._process.pid, number)

    def suspend(self) -> None:
        """Let it stand still."""
        psutil.Process(self._process.pid).suspend()

    def go_on(self) -> None:
        """Let it go on."""
        psutil.Process(self._process.pid).resume()


def warm_up() -> None:
    """Let the server import what it forks, so that the first training is as quick as the others."""
    # Who is started in the background ignores Ctrl-C, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if _can_fork():
        process = _context().Process(target=int, daemon=True)
        process.start()
        process.join()


def _can_fork() -> bool:
    return "forkserver" in multiprocessing.get_all_start_methods()


def _started(arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "coemogen_train", *map(str, arguments)]
    group = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    with log.open("wb") as out:
        return subprocess.Popen(  # noqa: S603
            command, env=quiet_environment(), stdout=out, stderr=subprocess.STDOUT, creationflags=group
        )


def _forked(arguments: list[str], log: str, under: Condition | None) -> Any:
    process = _context().Process(target=_command, args=(arguments, log, under), daemon=True)
    process.start()
    return process


def _context() -> Any:
    os.environ.update(quiet_environment())
    context: Any = multiprocessing.get_context("forkserver" if _can_fork() else "spawn")
    if _can_fork():
        context.set_forkserver_preload(_PRELOADED)
    return context


def _command(arguments: list[str], log: str, under: Condition | None) -> None:
    """Run one of our commands in this process."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    if under == "from the disk":
        from coemogen_train.train import setup

        setup.CacheOptions = partial(setup.CacheOptions, memory_limit=0)  # type: ignore[misc,assignment]
    if under == "small files":
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT, FILE_LIMIT))
    from coemogen_train.cli import program

    sys.exit(program.run(arguments))
