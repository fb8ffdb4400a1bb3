"""A run's state on the disk: what is saved of it, and how it is taken up again."""

from __future__ import annotations

import logging
import platform
from pathlib import Path

from ..errors import ConfigError, DataError
from ..files import atomic_write_text, canonical_json, sweep_parts
from .checkpoint import Checkpoint, load_newest, manifest_hash, save_checkpoint, sweep_unfinished
from .config import check_resume
from .history import TrainingDiverged, cut_history
from .peers import Peers
from .setup import Stepping, run_folders
from .validation import VALIDATION_FILE, cut_validation

logger = logging.getLogger(__name__)

_GROUPS = {"trainable", "optimiser", "loss_scale"}


def take_up(run: Stepping, resume: bool) -> tuple[int, int]:
    """Make the run's folder and restore the newest checkpoint; gives (steps done, bad steps in a row).

    Raises:
        DataError: every checkpoint is damaged, or the newest lacks a part.
        ConfigError: several processes that see different checkpoints.
        TrainingDiverged: the run ended so, and nothing was changed since that could make it end otherwise.
    """
    out, main = run.config.out, run.accelerator.is_main_process
    checkpoints, previews, history_file = run_folders(out)
    found = load_newest(checkpoints) if resume else None
    _check_same(run.peers, checkpoints, found)
    if found is not None:
        _restore(run, found, checkpoints)
    done = found.step if found else 0
    if main:
        checkpoints.mkdir(parents=True, exist_ok=True)
        sweep_unfinished(checkpoints)
        for folder in (out, previews, out / "adapters"):
            sweep_parts(folder)
        cut_history(history_file, done)
        cut_validation(out / VALIDATION_FILE, done)
        atomic_write_text(out / "settings.json", canonical_json(run.config.model_dump(mode="json")) + "\n")
    run.peers.meet()
    return done, int(found.state["bad_in_a_row"]) if found else 0


def save_run(run: Stepping, checkpoints: Path, done: int, bad_in_a_row: int) -> None:
    """Write a checkpoint after `done` steps; to be called by every process."""
    if run.accelerator.is_main_process:
        write_checkpoint(run, checkpoints, done, bad_in_a_row)
    run.peers.meet()


def write_checkpoint(run: Stepping, checkpoints: Path, done: int, bad_in_a_row: int) -> None:
    """Write a checkpoint after `done` steps, whatever the other processes do.

    Raises:
        OSError: as `save_checkpoint`.
    """
    tensors = {
        "trainable": run.objective.state_dict(),
        "optimiser": run.optimiser.state_dict(),
        "loss_scale": run.loss_scale.state_dict(),
    }
    state = {
        "settings": run.config.model_dump(mode="json"),
        "data": run.start.fingerprint,
        "processes": run.accelerator.num_processes,
        "begun": run.start.begun.to_dict(),
        "bad_in_a_row": bad_in_a_row,
    }
    save_checkpoint(checkpoints, Checkpoint(done, tensors, state), run.config.keep_checkpoints)


def _check_same(peers: Peers, where: Path, found: Checkpoint | None) -> None:
    """Refuse where the processes would go on from different checkpoints."""
    sight = "none" if found is None else f"step {found.step} ({manifest_hash(where, found.step)[:8]})"
    seen = peers.gather((platform.node(), sight))
    if len({sight for _, sight in seen}) > 1:
        told = [f"{host}, {peers.called(n)}, sees {sight}" for n, (host, sight) in enumerate(seen)]
        raise ConfigError(
            f"{where}: the processes do not see the same newest checkpoint ({'; '.join(told)}): all machines "
            "of a run must see the same folders; try again when they do."
        )


def _restore(run: Stepping, found: Checkpoint, where: Path) -> None:
    """Take up what `start.begin` has found to be of this very run."""
    processes = (int(found.state["processes"]), run.accelerator.num_processes)
    changes = check_resume(found.state["settings"], run.config, where, *processes)
    bad = int(found.state["bad_in_a_row"])
    if bad >= run.config.max_bad_steps and not changes:
        raise TrainingDiverged(
            f"{where}: the run ended at step {found.step}, with {bad} steps in a row that were not finite, "
            "and would end so again: try a lower learning_rate, or begin it otherwise in another folder."
        )
    if missing := sorted(_GROUPS - found.tensors.keys()):
        raise DataError(
            f"{where}: the checkpoint of step {found.step} lacks {', '.join(missing)}: remove its folder, "
            "and --resume goes on from the one before it."
        )
    for change in changes:
        logger.warning("from step %d on %s", found.step, change)
    run.objective.load_state_dict(found.tensors["trainable"])
    run.optimiser.load_state_dict(found.tensors["optimiser"])
    run.loss_scale.load_state_dict(found.tensors["loss_scale"])
