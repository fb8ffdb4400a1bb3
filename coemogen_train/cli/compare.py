"""`compare`: methods and ablations side by side, over seeds, with intervals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .answer import Answer
from .options import Device, Json, OptionalVision, pick_device
from .progress import Report, progress_bar

if TYPE_CHECKING:
    from ..evaluate.comparison.engine import Engine
    from ..evaluate.comparison.variants import Experiment


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
    seeds: Annotated[
        int | None, typer.Option(min=1, max=100, help="Of --toy: fits and draws of every row; 3.")
    ] = None,
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
    given: dict[str, object] = {"--set": set_folder, "--settings": settings, "--base": base}
    given |= {"--vision": vision, "--weights-dir": weights_dir, "--dry-run": dry_run}
    _check_options(toy, paper, [name for name, value in given.items() if value], quick, seeds)
    place, names = out.absolute(), experiment or ["table"]
    if dry_run:
        return _plan(settings, set_folder, base, vision, weights_dir, pick_device(device))

    def engine(wanted: Sequence[str], numbers: Sequence[int] | None) -> Engine:
        if toy:
            return _toy_engine(place, numbers if numbers is not None else range(seeds or 3), wanted, quick)
        arena = settings, set_folder, base, vision, weights_dir, pick_device(device)
        return _paper_engine(place, numbers, wanted, *arena)

    if worker:
        _end_with_parent()
        engine(names, None).work(lambda what: print(what, file=sys.stderr, flush=True))
        return Answer({})
    if not report_only:
        _work(engine(names, None), jobs or (os.cpu_count() or 1 if toy else 1))
    return _answer(engine, place)


def _check_options(toy: bool, paper: bool, of_paper: Sequence[str], quick: bool, seeds: int | None) -> None:
    """Refuse what would have no effect."""
    from ..errors import UserError

    if toy == paper:
        raise UserError("say where to compare: --toy is the bundled miniature, --paper a set of your own.")
    if toy and of_paper:
        raise UserError(f"{of_paper[0]} belongs to --paper: the toy world brings its own.")
    if paper and (quick or seeds is not None):
        name = "--quick" if quick else "--seeds"
        raise UserError(f"{name} belongs to --toy: --settings FILE says how much --paper does.")


def _work(engine: Engine, jobs: int) -> None:
    from ..evaluate.comparison.begun import begin

    begin(engine.out, [experiment.name for experiment in engine.experiments], engine.seeds)
    with _workers(jobs - 1, jobs), progress_bar() as progress:
        engine.work(_told(engine, progress))


def _experiments(names: Sequence[str]) -> list[Experiment]:
    from ..errors import UserError
    from ..evaluate.comparison.variants import EXPERIMENTS

    wanted = list(EXPERIMENTS) if "all" in names else names
    if unknown := [name for name in wanted if name not in EXPERIMENTS]:
        raise UserError(f"no experiment is called {unknown[0]!r}; there are {', '.join(EXPERIMENTS)}, all.")
    return [EXPERIMENTS[name] for name in dict.fromkeys(wanted)]


def _toy_engine(out: Path, seeds: Sequence[int], names: Sequence[str], quick: bool) -> Engine:
    from ..evaluate.comparison.engine import Engine
    from ..toyworld.arena import toy_arena

    return Engine(toy_arena(out, quick), out, seeds, _experiments(names))


def _paper_engine(
    out: Path,
    seeds: Sequence[int] | None,
    names: Sequence[str],
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

    if set_folder is None:
        raise UserError("--paper needs --set SET, filtered; --dry-run tells what else is missing.")
    table = paper_settings(settings)
    experiments = [
        replace(experiment, variants=table.variants) if experiment.name == "table" else experiment
        for experiment in _experiments(names)
    ]
    arena = SetArena(table, set_folder, out, base, vision, weights_dir, device)
    return Engine(arena, out, seeds if seeds is not None else table.seeds, experiments)


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
        # Not by sys.stdin: its lock would be held when the interpreter ends, which then aborts.
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _told(engine: Engine, progress: Report) -> Any:
    def told(what: str) -> None:
        done, total = engine.count()
        progress("cells", done, total)
        print(what, file=sys.stderr, flush=True)

    return told


def _answer(engine: Callable[[Sequence[str], Sequence[int]], Engine], out: Path) -> Answer:
    """All that was ever asked for in `out`, as far as it is finished."""
    from ..evaluate.comparison.begun import Begun
    from ..evaluate.comparison.claims import judge, load_claims
    from ..evaluate.comparison.copies import memorising_sections
    from ..evaluate.comparison.outcome import comparison_of
    from ..evaluate.comparison.report import write_report
    from ..evaluate.comparison.tables import experiments, figures_table, question, rich_table

    begun = Begun.read(out)
    whole = engine(begun.experiments, begun.seeds)
    comparison = comparison_of(whole, begun.claims_sha256)
    files = write_report(comparison, out, memorising_sections(whole, comparison))
    tables = [
        rich_table(figures_table(rows), question(name)) for name, rows in experiments(comparison).items()
    ]
    verdicts = [
        f"{entry.verdict}: {entry.claim.sentence} {entry.sentence}"
        for entry in judge(load_claims(), comparison)
        if entry.verdict != "not tested"
    ]
    told = json.loads(files[0].read_text(encoding="utf-8"))
    return Answer({**told, "files": files}, [*tables, *verdicts, *map(str, files)])
