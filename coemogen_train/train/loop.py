"""The training loop: step, record, save, validate, preview. What happens in a batch is the objective's."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import UserError
from .config import TrainConfig
from .control import Control, TrainingInterrupted
from .finish import make_info, write_adapter
from .folder_lock import run_lock
from .history import History, read_history
from .lost_processes import saved_when_lost, told_when_lost
from .peers import Peers
from .plan import make_plan
from .preflight import check_folder
from .previews import Previews
from .progress import TrainingProgress
from .resume import save_run, take_up
from .same_folders import begin_together, check_seen
from .setup import Run, make_accelerator, prepare_run, run_folders
from .start import begin
from .step import memory_told, optimise
from .trackers import Trackers, open_trackers
from .validation import Validation
from .wishes import Wishes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """What a finished run leaves: files, steps done in all and skipped now, the last losses, its seconds.

    validation: mean denoising loss of the held-out pictures at the end; None where there are none.
    """

    adapter: Path
    history: Path
    steps: int
    skipped: int
    ldm: float | None
    semantic: float | None
    validation: float | None
    seconds: float


@dataclass(frozen=True)
class Due:
    """What is to be done after a step. snapshot: the user asked for the adapter as it is now."""

    read: bool
    save: bool
    validate: bool
    preview: bool
    snapshot: bool
    stop: bool


def train(
    config: TrainConfig, resume: bool = False, progress: bool = True, device: str | None = None
) -> RunResult:
    """Train an adapter into `config.out`.

    Arguments:
        config: see `load_config`.
        resume: go on from the newest whole checkpoint in `config.out`; where there is none, begin.
        progress: show a bar on standard error.
        device: see `make_accelerator`.

    Raises:
        UserError: a mistake in settings, set, base or folder; or `TrainingDiverged`.
        TrainingInterrupted: Ctrl-C, SIGTERM or the file `stop`; the step was finished and saved.
        ProcessLost: another process that trained with this one has ended; the last whole step was saved.
    """
    started = time.monotonic()
    accelerator = make_accelerator(device, config.lost_after)
    checkpoints, _, history = run_folders(config.out)
    with Peers(accelerator, config.lost_after) as peers, told_when_lost(peers, checkpoints):
        start = begin_together(
            peers, partial(begin, config, resume, accelerator.device.type, accelerator.num_processes)
        )
        config = start.config
        plan = make_plan(config, start, accelerator.num_processes, accelerator.device)
        with run_lock(config.out) if peers.main else nullcontext():
            if peers.main:
                check_folder(config.out, resume)  # another run may have come and gone meanwhile
                plan.log(logger)
            check_seen(peers, config.out)
            run = prepare_run(config, start, accelerator, plan.checkpointing, progress, peers)
            make_info(run, config.steps)  # what could not be written at the end is told now
            done, skipped = _run_steps(run, resume, progress)
            adapter, validation = config.out / "adapter.safetensors", Validation(run, config.out)
            if peers.main:
                write_adapter(run, adapter, done)
            peers.meet()
            run.objective.attached.remove()
    # Of an earlier part of the run, where this one had no step to do.
    end = next(reversed(read_history(history)), None)
    return RunResult(
        adapter=adapter,
        history=history,
        steps=done,
        skipped=skipped,
        ldm=end.ldm if end else None,
        semantic=end.semantic if end else None,
        validation=validation.records[-1].ldm if validation.records else None,
        seconds=time.monotonic() - started,
    )


def _run_steps(run: Run, resume: bool, progress: bool) -> tuple[int, int]:
    """Do the steps that are left; gives (steps done in all, steps skipped now)."""
    config, peers, main = run.config, run.peers, run.peers.main
    checkpoints, previews, history_file = run_folders(config.out)
    done, bad_in_a_row = take_up(run, resume)
    history = History(
        history_file if main else None, run.batches.sample_ids, config.max_bad_steps, bad_in_a_row
    )
    validation, sheets = Validation(run, config.out if main else None), Previews(previews, run)
    pauses = {"save": config.save_every, "validate": config.validate_every, "preview": config.preview_every}
    with ExitStack() as stack:
        control = stack.enter_context(Control(config.out, looks=main))
        peers.hurried = lambda: control.stop_requested
        wishes = Wishes(peers, control, done)
        # Before the bar: a tracker may print, and ask for a login.
        trackers = stack.enter_context(open_trackers(config, main, config.out, done))
        bar = stack.enter_context(TrainingProgress(config.steps, done, progress and main, pauses))
        stack.enter_context(saved_when_lost(run, history, checkpoints, lambda: done))
        if _validation_due(config, done) and not peers.agree(done in validation.steps):
            _validate(run, validation, bar, trackers, done)
        if done and _due(done, config.preview_every) and not sheets.file(done).exists():
            sheets.draw(done)  # the run was stopped between this step's checkpoint and its sheet
        peers.meet()
        while done < config.steps:
            with memory_told(run):
                history.add(optimise(run, done))
            done += 1
            due = _after(run, done, wishes)
            if due.read:
                records = history.read()
                bar.update(records[-1])
                for record in records:
                    trackers.log(record.step, record.values())
            if due.save or history.diverged:
                with bar.pause("save"):
                    save_run(run, checkpoints, done, history.bad_in_a_row)
            history.check()
            if due.snapshot:
                _snapshot(run, done)
            if due.stop:
                raise TrainingInterrupted(done, checkpoints)
            if due.validate:
                _validate(run, validation, bar, trackers, done)
            if due.preview:
                with bar.pause("preview"):
                    sheets.draw(done)
            if due.preview or due.snapshot:
                peers.meet()  # one of them draws and writes
    return done, history.skipped


def _validate(run: Run, validation: Validation, bar: TrainingProgress, trackers: Trackers, done: int) -> None:
    with bar.pause("validate"):
        record = validation.measure(done)
    if record is not None:
        trackers.log(done, record.values())


def _after(run: Run, done: int, wishes: Wishes) -> Due:
    """Say what is due after `done` steps; several processes agree on what people ask for."""
    config, last = run.config, done == run.config.steps
    looks = last or _due(done, config.log_every)
    stop, save = wishes.after(done, looks)
    regular = last or stop or save or _due(done, config.save_every)
    validate = _validation_due(config, done)
    preview = _due(done, config.preview_every)
    return Due(
        read=looks or regular or validate or preview,
        save=regular,
        validate=validate,
        preview=preview,
        snapshot=save,
        stop=stop and not last,
    )


def _validation_due(config: TrainConfig, done: int) -> bool:
    """Whether the held-out losses are measured after `done` steps: every so often, and at the end."""
    return _due(done, config.validate_every) or (done == config.steps and config.validate_every > 0)


def _snapshot(run: Run, done: int) -> None:
    """Write the adapter as it is now, for whoever wants to try it; a failure here ends nothing."""
    if not run.peers.main:
        return
    try:
        write_adapter(run, run.config.out / "adapters" / f"step-{done:08d}.safetensors", done)
    except (OSError, UserError) as error:
        logger.warning("the adapter of step %d was not written (%s); training goes on", done, error)


def _due(done: int, period: int) -> bool:
    return period > 0 and done % period == 0
