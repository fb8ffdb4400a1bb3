"""The training loop: step, record, save, preview. What happens inside a batch is the objective's concern."""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import ConfigError
from ..files import atomic_write_text, canonical_json
from .checkpoint import Checkpoint, load_newest, save_checkpoint, sweep_unfinished
from .config import TrainConfig, check_resume
from .finish import make_info, write_adapter
from .history import History, StepReading, cut_history, read_history
from .optimiser import gradient_norm, learning_rate_at, scale_gradients
from .previews import Previews
from .progress import TrainingProgress
from .setup import Run, prepare_run, run_folders
from .signals import StopSignals, TrainingInterrupted

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """What a finished run leaves: files, steps done in all and skipped now, the last losses, its seconds."""

    adapter: Path
    history: Path
    steps: int
    skipped: int
    ldm: float | None
    semantic: float | None
    seconds: float


def train(config: TrainConfig, resume: bool = False, progress: bool = True) -> RunResult:
    """Train an adapter into `config.out`.

    Arguments:
        config: see `load_config`.
        resume: go on from the newest whole checkpoint in `config.out`; where there is none, begin.
        progress: show a bar on standard error.

    Raises:
        UserError: a mistake in settings, set, base or folder; or `TrainingDiverged`.
        TrainingInterrupted: Ctrl-C or SIGTERM; the step was finished and saved.
    """
    started = time.monotonic()
    _check_folder(config.out, resume)
    run = prepare_run(config, progress)
    make_info(run, config.steps)  # what could not be written at the end is told now
    checkpoints, previews, history_file = run_folders(config.out)
    done, bad_in_a_row = _begin(run, resume)
    main = run.accelerator.is_main_process
    history = History(
        history_file if main else None, run.batches.sample_ids, config.max_bad_steps, bad_in_a_row
    )
    sheets = Previews(previews, run)

    with StopSignals() as signals, TrainingProgress(config.steps, done, progress and main) as bar:
        while done < config.steps:
            history.add(optimise(run, done))
            done += 1
            last = done == config.steps
            looks = last or done % config.log_every == 0
            stop = _agreed(run, signals.requested, looks)
            save = last or stop or _due(done, config.save_every)
            preview = _due(done, config.preview_every)
            if looks or save or preview:
                records = history.read()
                bar.update(records[-1])
                save = save or history.diverged
            with bar.pause() if save or preview else nullcontext():
                if save:
                    _save(run, checkpoints, done, history.bad_in_a_row)
                history.check()
                if stop and not last:
                    raise TrainingInterrupted(done, checkpoints)
                if preview:
                    sheets.draw(done)

    adapter = config.out / "adapter.safetensors"
    if main:
        write_adapter(run, adapter, done)
    run.accelerator.wait_for_everyone()
    run.objective.attached.remove()
    end = next(
        reversed(read_history(history_file)), None
    )  # of an earlier run, where this one had no step to do
    return RunResult(
        adapter=adapter,
        history=history_file,
        steps=done,
        skipped=history.skipped,
        ldm=end.ldm if end else None,
        semantic=end.semantic if end else None,
        seconds=time.monotonic() - started,
    )


def optimise(run: Run, step: int) -> StepReading:
    """Do optimiser step `step` (the first is 0) without waiting for the device.

    Everything that decides about the update (which groups were present, whether a loss or a gradient is
    finite) stays on the device and guards it there.
    """
    config, optimiser = run.config, run.optimiser
    parts, rank = config.accumulate, run.accelerator.process_index
    scale = run.loss_scale.scale
    tallies = []
    optimiser.zero_grad()
    for part in range(parts):
        begin = (part * run.accelerator.num_processes + rank) * config.batch_size
        batch = run.batches.batch(step, range(begin, begin + config.batch_size)).to(run.device)
        # Several processes exchange gradients once per step, with the last micro-batch.
        with nullcontext() if part == parts - 1 else run.accelerator.no_sync(run.model):
            with run.autocast():
                losses = run.model(batch)
            (losses.total * (scale / parts)).backward()
        bad = torch.zeros(run.effective_batch, device=run.device)
        bad[begin : begin + config.batch_size] = (~torch.isfinite(losses.per_sample)).float()
        tallies.append(torch.cat([torch.stack([losses.ldm, losses.semantic]), bad, losses.presence]))

    tally = torch.stack(tallies).sum(0)
    if run.accelerator.num_processes > 1:
        tally = run.accelerator.reduce(tally, "sum")
    means = tally[:2] / (parts * run.accelerator.num_processes)
    bad_samples, presence = tally[2 : 2 + run.effective_batch], tally[2 + run.effective_batch :]

    norm = gradient_norm(optimiser.parameters) / scale
    bad_loss = bad_samples.any()
    skipped = bad_loss | ~torch.isfinite(norm)
    if config.max_grad_norm or run.loss_scale.enabled:
        scale_gradients(optimiser.parameters, _clip_factor(norm, config.max_grad_norm) / scale)
    optimiser.learning_rate = learning_rate_at(step, config.learning_rate, config.warmup_steps)
    optimiser.step(presence, skipped)
    run.loss_scale.update(skipped)
    return StepReading(
        step=step + 1,
        learning_rate=optimiser.learning_rate,
        values=torch.cat([means, torch.stack([norm, scale])]),
        skipped=skipped,
        # While the fp16 loss scale can still be lowered, an overflow is its ordinary way of finding its size.
        bad=bad_loss | (skipped & (scale <= 1)),
        bad_samples=bad_samples,
    )


def _clip_factor(norm: Tensor, max_norm: float) -> Tensor:
    return (max_norm / (norm + 1e-6)).clamp(max=1.0) if max_norm else torch.ones_like(norm)


def _due(done: int, period: int) -> bool:
    return period > 0 and done % period == 0


def _agreed(run: Run, requested: bool, looks: bool) -> bool:
    """Say whether to stop; several processes ask each other, and only at steps where they all look."""
    if run.accelerator.num_processes == 1:
        return requested
    if not looks:
        return False
    return bool(run.accelerator.reduce(torch.tensor(float(requested), device=run.device), "sum") > 0)


def _check_folder(out: Path, resume: bool) -> None:
    if not resume and any(path.exists() for path in (out / "checkpoints", out / "history.jsonl")):
        raise ConfigError(f"{out} already holds a run: go on with --resume, or choose another --out.")


def _begin(run: Run, resume: bool) -> tuple[int, int]:
    """Make the run's folder and restore the newest checkpoint; gives (steps done, bad steps in a row)."""
    out, main = run.config.out, run.accelerator.is_main_process
    checkpoints, _, history_file = run_folders(out)
    found = load_newest(checkpoints) if resume else None
    if found is not None:
        _restore(run, found, checkpoints)
    done = found.step if found else 0
    if main:
        checkpoints.mkdir(parents=True, exist_ok=True)
        sweep_unfinished(checkpoints)
        cut_history(history_file, done)
        atomic_write_text(out / "settings.json", canonical_json(run.config.model_dump(mode="json")) + "\n")
    run.accelerator.wait_for_everyone()
    return done, int(found.state["bad_in_a_row"]) if found else 0


def _restore(run: Run, found: Checkpoint, where: Path) -> None:
    check_resume(found.state["settings"], run.config, where)
    if found.state["data"] != run.data_fingerprint:
        raise ConfigError(
            f"{where}: the training set {run.config.set} is no longer the one this run was begun with; "
            "choose a new --out."
        )
    if found.state["processes"] != run.accelerator.num_processes:
        raise ConfigError(
            f"{where}: the run was begun with {found.state['processes']} processes and cannot go on with "
            f"{run.accelerator.num_processes}: launch it as before."
        )
    run.objective.load_state_dict(found.tensors["trainable"])
    run.optimiser.load_state_dict(found.tensors["optimiser"])
    run.loss_scale.load_state_dict(found.tensors["loss_scale"])


def _save(run: Run, checkpoints: Path, done: int, bad_in_a_row: int) -> None:
    if run.accelerator.is_main_process:
        tensors = {
            "trainable": run.objective.state_dict(),
            "optimiser": run.optimiser.state_dict(),
            "loss_scale": run.loss_scale.state_dict(),
        }
        state = {
            "settings": run.config.model_dump(mode="json"),
            "data": run.data_fingerprint,
            "processes": run.accelerator.num_processes,
            "bad_in_a_row": bad_in_a_row,
        }
        save_checkpoint(checkpoints, Checkpoint(done, tensors, state), run.config.keep_checkpoints)
    run.accelerator.wait_for_everyone()
