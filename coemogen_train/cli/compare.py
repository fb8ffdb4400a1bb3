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
from .options import Device, Json, OptionalVision, pick_device
from .progress import Report, progress_bar

if TYPE_CHECKING:
    from ..evaluate.comparison.engine import Engine


def compare(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where everything goes.")] = Path("comparison"),
    toy: Annotated[bool, typer.Option("--toy", help="In the bundled miniature, offline.")] = False,
    paper: Annotated[
        bool, typer.Option("--paper", help="On a prepared set with real weights, as the paper's table.")
    ] = False,
    set_folder: Annotated[
        Path | None, typer.Option("--set", metavar="SET", help="Of --paper: EmoSet, as prepare made it.")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of --paper: other rows, budget, seeds, pictures.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="Of --paper: another base than the settings'.")] = None,
    vision: OptionalVision = None,
    weights_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Of --paper: the encoders' weights.")
    ] = None,
    device: Device = "auto",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Of --paper: what it takes here, and what is missing."),
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Of --toy: fits and draws of every row.")] = 3,
    experiment: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Instead of the table: paper_rate, semantic, semantic_when, captions, noise, training, "
            "sampling, branches; several times for several; all.",
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few steps and pictures: does it run?")] = False,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that share the work; of --toy one per core."),
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
    Example: coemogen_train compare --paper --dry-run
    """
    from ..errors import UserError

    if toy == paper:
        raise UserError("say where to compare: --toy is the bundled miniature, --paper a set of your own.")
    if dry_run:
        return _plan(settings, set_folder, base, vision, weights_dir, pick_device(device))
    place = out.absolute()
    if toy:
        engine = _toy_engine(place, range(seeds), experiment, quick)
    else:
        engine = _paper_engine(place, settings, set_folder, base, vision, weights_dir, pick_device(device))
    if worker:
        _end_with_parent()
        engine.work(lambda what: print(what, file=sys.stderr, flush=True))
        return Answer({})
    if not report_only:
        engine.begin()
        count = jobs or (os.cpu_count() or 1 if toy else 1)
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


def _paper_engine(
    out: Path,
    settings: Path | None,
    set_folder: Path | None,
    base: str | None,
    vision: str | None,
    weights_dir: Path | None,
    device: str,
) -> Engine:
    from ..errors import UserError
    from ..evaluate.comparison.engine import Engine
    from ..evaluate.comparison.paper_settings import paper_settings
    from ..evaluate.comparison.set_arena import SetArena
    from ..evaluate.comparison.variants import EXPERIMENTS, Experiment

    if set_folder is None:
        raise UserError("--paper needs --set SET, filtered; --dry-run tells what else is missing.")
    table = paper_settings(settings)
    arena = SetArena(table, set_folder, out, base, vision, weights_dir, device)
    question = EXPERIMENTS["table"].question
    return Engine(arena, out, table.seeds, [Experiment("table", question, table.variants, "curve")])


def _plan(
    settings: Path | None,
    set_folder: Path | None,
    base: str | None,
    vision: str | None,
    weights_dir: Path | None,
    device: str,
) -> Answer:
    from ..evaluate.comparison.paper import paper_plan
    from ..evaluate.comparison.paper_view import paper_dict, paper_parts

    plan = paper_plan(settings, set_folder, base, vision, weights_dir, device)
    return Answer(paper_dict(plan), paper_parts(plan))


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
    from ..evaluate.comparison.claims import judge, load_claims
    from ..evaluate.comparison.copies import memorising_sections
    from ..evaluate.comparison.outcome import comparison_of
    from ..evaluate.comparison.report import write_report
    from ..evaluate.comparison.tables import experiments, figures_table, question, rich_table

    comparison = comparison_of(engine)
    files = write_report(comparison, engine.out, memorising_sections(engine, comparison))
    tables = [
        rich_table(figures_table(rows), question(name)) for name, rows in experiments(comparison).items()
    ]
    told = json.loads(files[0].read_text(encoding="utf-8"))
    verdicts = [
        f"{entry.verdict}: {entry.claim.sentence} {entry.sentence}"
        for entry in judge(load_claims(), comparison)
        if entry.verdict != "not tested"
    ]
    return Answer({**told, "files": files}, [*tables, *verdicts, *map(str, files)])
