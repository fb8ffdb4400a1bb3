"""One of the processes that `benchmarks.scale` times: makes a run, then steps when it is told to.

Commands come as lines of JSON on standard input, and an answer to each leaves on standard output:
{"steps": 8, "threads": 1} does steps; {"save": "file.safetensors"} has the first process write what was
trained; the end of the input, or an empty line, ends it. What fails is answered with {"failed": the reason}.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from coemogen_train.files import atomic_path
from coemogen_train.train.peers import Peers
from coemogen_train.train.setup import Stepping
from coemogen_train.train.step import optimise

from ..measuring.rounds import wait_for
from ..measuring.stepping import made_config, make_stepping


class Worker:
    """A run of made-up data, on the device that the launch gave to this process."""

    def __init__(self, size: Any, settings: dict[str, Any], device: str) -> None:
        torch.manual_seed(0)
        place = torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if device == "cuda" else device)
        self.run: Stepping = make_stepping(size, made_config(settings), place, checkpointing=False)
        accelerator = self.run.accelerator
        self.run.batches.effective_batch = self.run.effective_batch  # type: ignore[attr-defined]
        self.run.peers = Peers(accelerator)
        self.done = 0

    def steps(self, count: int, threads: int | None) -> int:
        """Do `count` steps; gives how many were done in all."""
        if threads is not None:
            torch.set_num_threads(threads)
        for _ in range(count):
            reading = optimise(self.run, self.done)
            self.done += 1
        wait_for(self.run.device)
        if bool(reading.skipped):
            raise RuntimeError("a step was skipped: what was timed is no training")
        return self.done

    def save(self, file: Path) -> int:
        if self.run.peers.main:
            state = self.run.objective.state_dict()
            with atomic_path(file) as part:
                save_file({name: tensor.cpu().contiguous() for name, tensor in state.items()}, str(part))
        self.run.peers.meet()
        return self.done


def main() -> None:
    """Make the run, and do what is told until there is nothing more."""
    size, settings, device = json.loads(sys.argv[1])
    out = sys.stdout

    def say(told: object) -> None:
        print(json.dumps(told), file=out, flush=True)

    with redirect_stdout(sys.stderr):
        try:
            _work(Worker(size, settings, device), say)
        except Exception as reason:
            say({"failed": str(reason).strip() or repr(reason)})
            raise


def _work(worker: Worker, say: Callable[[object], None]) -> None:
    say("ready")
    for line in sys.stdin:
        if not line.strip():
            break
        told = json.loads(line)
        if "save" in told:
            say(worker.save(Path(told["save"])))
        else:
            say(worker.steps(told["steps"], told["threads"]))


if __name__ == "__main__":
    main()
