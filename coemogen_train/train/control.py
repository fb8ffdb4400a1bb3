"""Steering a run from outside, by signal or by a file in its folder: stop after the step, or save now."""

from __future__ import annotations

import signal
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType


class TrainingInterrupted(Exception):
    """The user stopped the run; everything was saved. The command exits with 130.

    Attributes:
        step: optimiser steps done.
        checkpoint: where they were saved.
    """

    def __init__(self, step: int, checkpoint: Path) -> None:
        super().__init__(f"stopped after step {step}, saved in {checkpoint}; go on with --resume")
        self.step, self.checkpoint = step, checkpoint


class Control:
    """While entered, wishes from outside are flags that the loop looks at, not crashes in mid-step.

    Stop: SIGINT (Ctrl-C), SIGTERM, on Windows SIGBREAK, or a file `out/stop`; Ctrl-C once more interrupts at
    once. Save: SIGUSR1 where the system has it, or a file `out/save`. The files work on every system and from
    another machine; they are removed when taken, and those from before the run on entering. Outside the main
    thread, where Python allows no handlers, the files work alone.

    Attributes:
        stop_requested: somebody wants the run to stop.
        save_requested: somebody wants a checkpoint; `take_save` clears it.
    """

    def __init__(self, out: Path, looks: bool = True) -> None:
        """looks: whether this process looks for the files; of several that train together, one does."""
        self._looks = looks
        self._stop_file, self._save_file = out / "stop", out / "save"
        self.stop_requested = False
        self.save_requested = False
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> Control:
        if self._looks:
            _remove(self._stop_file)
            _remove(self._save_file)
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
                self._install(name, self._on_stop)
            self._install("SIGUSR1", self._on_save)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal itself gave back

    def poll(self) -> None:
        """Look for the files; a few microseconds on a local disk, some more on a remote one."""
        if not self._looks:
            return
        if self._stop_file.is_file():
            self.stop_requested = True
            _remove(self._stop_file)
        # A file that cannot be removed yet, as while a Windows program writes it, is taken next time: once.
        if self._save_file.is_file() and _remove(self._save_file):
            self.save_requested = True

    def take_save(self) -> bool:
        """Say whether a checkpoint is wanted, and take the wish as granted."""
        if not self.save_requested:
            return False
        self.save_requested = False
        return True

    def _install(self, name: str, handler: object) -> None:
        if (number := getattr(signal, name, None)) is not None:
            self._previous[number] = signal.signal(number, handler)  # type: ignore[arg-type]  # one of ours

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        if self.stop_requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.stop_requested = True

    def _on_save(self, number: int, frame: FrameType | None) -> None:
        self.save_requested = True


def _remove(file: Path) -> bool:
    with suppress(OSError):
        file.unlink()
        return True
    return False
