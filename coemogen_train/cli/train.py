"""`train`: from a set to an adapter file."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .answer import Answer
from .options import Json


def train(
    config: Annotated[
        str | None, typer.Option(metavar="FILE.toml", help="Settings, or a preset: toy, 8gb, paper.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Folder of the run; wins over the settings' `out`.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint in RUN.")
    ] = False,
    init: Annotated[
        Path | None, typer.Option(metavar="ADAPTER", help="Go on from this adapter; wins over `init`.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check everything and print the plan; read no weights, write nothing."
        ),
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting that wins over the file's."),
    ] = None,
    as_json: Json = False,
) -> Answer:
    """Train an adapter; Ctrl-C finishes the step and saves, and --resume goes on as if nothing had been.

    --dry-run tells beforehand what a run will do, need and take, and what is wrong. The run itself
    leaves adapter.safetensors, checkpoints, sample sheets and the history of the losses in RUN.

    \b
    Example: coemogen_train train --config 8gb --set set=sets/mine --out runs/mine
    """
    from ..train.config import load_config
    from ..train.control import TrainingInterrupted
    from ..train.loop import train as train_adapter
    from ..train.lost_processes import ProcessLost

    # In quotes, so that a folder called 7 or none stays a folder.
    paths = {"out": out, "init": init}
    given = [
        f"{key}={json.dumps(str(path), ensure_ascii=False)}"
        for key, path in paths.items()
        if path is not None
    ]
    chosen = load_config(config, [*(settings or ()), *given])
    if dry_run:
        from .plan import plan_data, plan_run, plan_view

        plan = plan_run(chosen, resume)
        return Answer(plan_data(plan), plan_view(plan))
    try:
        result = train_adapter(chosen, resume=resume)
    except TrainingInterrupted as stop:
        print(f"coemogen_train: {stop}", file=sys.stderr)
        return Answer({"error": str(stop), "step": stop.step, "checkpoint": stop.checkpoint}, code=130)
    except ProcessLost as lost:
        print(f"coemogen_train: {lost}", file=sys.stderr, flush=True)
        told_of = {"error": str(lost), "step": lost.step, "checkpoint": lost.checkpoint}
        return Answer(told_of, code=ProcessLost.CODE)
    told = f"{result.steps} steps, {result.skipped} of them skipped, in {result.seconds:.0f} s."
    return Answer(asdict(result), [told, f"The adapter is {result.adapter}."])
