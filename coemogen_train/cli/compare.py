"""`compare`: methods and ablations side by side, over seeds, with intervals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .answer import Answer
from .options import Json
from .progress import Report, progress_bar

if TYPE_CHECKING:
    from ..evaluate.comparison.engine import Engine


def compare(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where everything goes.")] = Path("comparison"),
    toy: Annotated[bool, typer.Option("--toy", help="In the bundled miniature, offline.")] = False,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Fits and draws of every row.")] = 3,
    experiment: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Instead of the table: semantic, semantic_when, captions, noise, training, sampling, "
            "branches; several times for several; all.",
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few steps and pictures: does it run?")] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes that share the work; by default one per CPU core.")
    ] = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Tell what is finished, and do nothing else.")
    ] = False,
    worker: Annotated[bool, typer.Option("--worker", hidden=True)] = False,
    as_json: Json = False,
) -> Answer:
    """CoEmoGen, the paper's baselines and its ablations side by side, with intervals and claims.

    Settings and guidance of every method are chosen on a held-in seed. What is finished is kept in DIR: the
    same command goes on after an interruption, and adds experiments and seeds to what is there. Leaves
    compare.json, compare.md and compare.html.

    \b
    Example: coemogen_train compare --toy --seeds 3 --out comparison
    Example: coemogen_train compare --toy --seeds 5 --experiment semantic --out comparison
    """
    from ..errors import UserError

    if not toy:
        raise UserError("say what to compare in: --toy is the bundled miniature.")
    engine = _toy_engine(out.absolute(), range(seeds), experiment, quick)
    if worker:
        _end_with_parent()
        engine.work(lambda what: print(what, file=sys.stderr, flush=True))
        return Answer({})
    if not report_only:
        count = jobs or os.cpu_count() or 1
        with _workers(count - 1, count), progress_bar() as progress:
            engine.work(_told(engine, progress))
    return _answer(engine)


def _toy_engine(out: Path, seeds: range, names: list[str] | None, quick: bool) -> Engine:
    from ..errors import UserError
    from ..evaluate.comparison.engine import Engine
    from ..evaluate.comparison.variants import EXPERIMENTS
    from ..toyworld.arena import toy_arena

    wanted = list(EXPERIMENTS) if names and "all" in names else names or ["table"]
    if unknown := [name for name in wanted if name not in EXPERIMENTS]:
        raise UserError(f"no experiment is called {unknown[0]!r}; there are {', '.join(EXPERIMENTS)}, all.")
    chosen = [EXPERIMENTS[name] for name in dict.fromkeys(wanted)]
    return Engine(toy_arena(out / "quick" if quick else out, quick), out, list(seeds), chosen)


@contextmanager
def _workers(count: int, sharing: int) -> Iterator[None]:
    """So many further processes of this very command, which take cells until none is left to take.

    sharing: how many processes divide the cores among them. Two single-threaded processes do twice the work
    of one with two threads here, since models this small leave a second thread idle.
    """
    import torch

    threads = max(1, (os.cpu_count() or 1) // sharing)
    torch.set_num_threads(threads)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    arguments = [argument for argument in sys.argv[1:] if argument != "--json"]
    command = [sys.executable, "-m", __name__.split(".cli")[0], *arguments, "--worker"]
    workers = [
        subprocess.Popen(  # noqa: S603 - ourselves
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        for _ in range(count)
    ]
    try:
        yield
    finally:
        for process in workers:
            process.terminate()  # whatever cell it has in hand is begun again by the next
        for process in workers:
            process.wait()


def _end_with_parent() -> None:
    """End when the process that started this one does, however it ends: its end of our input closes then."""

    def wait() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _told(engine: Engine, progress: Report) -> Any:
    def told(what: str) -> None:
        done, total = engine.count()
        progress("cells", done, total)
        print(what, file=sys.stderr, flush=True)

    return told


def _answer(engine: Engine) -> Answer:
    from ..evaluate.comparison.outcome import comparison_of
    from ..evaluate.comparison.report import write_report
    from ..evaluate.comparison.tables import experiments, figures_table, question, rich_table

    comparison = comparison_of(engine)
    files = write_report(comparison, engine.out)
    tables = [
        rich_table(figures_table(rows), question(name)) for name, rows in experiments(comparison).items()
    ]
    told = json.loads(files[0].read_text(encoding="utf-8"))
    return Answer({**told, "files": files}, [*tables, *map(str, files)])
