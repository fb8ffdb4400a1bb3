"""Checkpoints that are whole or absent: a folder per step, a manifest of hashes, moved into place at once."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..data.tensor_files import write_tensors
from ..errors import DataError
from ..files import atomic_path, atomic_write_text, canonical_json, sha256_file

logger = logging.getLogger(__name__)

_FORMAT = 1
_MANIFEST = "manifest.json"
_STATE = "state.json"
# What JSON that is none, or that is something else, is told by.
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
_NAME = re.compile(r"step-(\d{8,})")
# Folders that are being written or taken away start like this; a killed process leaves them, the next one
# sweeps.
_UNFINISHED = ".part-"


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on: named tensors by group (`trainable`, `optimiser`), and a JSON-able state."""

    step: int
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write `folder/step-NNNNNNNN`, verify it from the disk, and only then delete all but the newest `keep`.

    Raises:
        OSError: the disk refused, or gave back other bytes; older checkpoints are then untouched.
    """
    final = folder / f"step-{checkpoint.step:08d}"
    part = folder / f"{_UNFINISHED}{secrets.token_hex(8)}"
    try:
        part.mkdir(parents=True)
        for name, tensors in checkpoint.tensors.items():
            with atomic_path(part / f"{name}.safetensors") as file:
                write_tensors(
                    file, {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
                )
        atomic_write_text(part / _STATE, canonical_json({"step": checkpoint.step, "state": checkpoint.state}))
        hashes = {file.name: sha256_file(file) for file in sorted(part.iterdir())}
        atomic_write_text(part / _MANIFEST, canonical_json({"format": _FORMAT, "files": hashes}))
        if final.exists():  # a damaged one of the same step, passed over when the run was resumed
            _remove(final)
        os.rename(part, final)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, OSError) and error.filename:
            error.filename = str(final)  # which people know
        raise
    if (fault := find_fault(final)) is not None:
        raise OSError(
            f"{final}: the checkpoint does not read back as it was written ({fault}); check the disk."
        )
    for old in _folders(folder)[keep:]:
        _remove(old)
    return final


def load_newest(folder: Path) -> Checkpoint | None:
    """Read the newest whole checkpoint, or None where there is none at all; damaged ones are told and passed
    over.

    Raises:
        DataError: there are checkpoints, and every one of them is damaged.
    """
    newest = _newest_whole(folder)
    return None if newest is None else _read(newest)


def read_newest_state(folder: Path) -> dict[str, Any] | None:
    """Give the state of the checkpoint that `load_newest` would read, without its tensors.

    Raises:
        DataError: as `load_newest`.
    """
    newest = _newest_whole(folder)
    return None if newest is None else _read_state(newest)[1]


def newest_step(folder: Path) -> int | None:
    """Give the step of the newest checkpoint by its name alone; None where there is none."""
    folders = _folders(folder)
    return _step_of(folders[0]) if folders else None


def manifest_hash(folder: Path, step: int) -> str:
    """Give a hash of a step's checkpoint: of its manifest, which holds those of all its files."""
    return sha256_file(folder / f"step-{step:08d}" / _MANIFEST)


def find_fault(checkpoint: Path) -> str | None:
    """Say what is wrong with a checkpoint's files, or None when every hash of its manifest holds, and its
    state is one."""
    try:
        manifest = json.loads((checkpoint / _MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != _FORMAT:
            return f"format {manifest['format']}, this version reads {_FORMAT}"
        for name, expected in manifest["files"].items():
            if Path(name).name != name:
                return f"{_MANIFEST} names a file that lies elsewhere"
            if sha256_file(checkpoint / name) != expected:
                return f"{name} has changed"
    except OSError as error:
        return f"{Path(error.filename or checkpoint).name}: {error.strerror}"
    except _UNREADABLE:
        return f"{_MANIFEST} cannot be read"
    try:
        _read_state(checkpoint)
    except (OSError, *_UNREADABLE):
        return f"{_STATE} cannot be read"
    return None


def sweep_unfinished(folder: Path) -> None:
    """Remove what killed writers left; to be called by the run's one writer before it starts."""
    for part in folder.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(part, ignore_errors=True)


def _folders(folder: Path) -> list[Path]:
    """List checkpoint folders, newest first."""
    named = [path for path in folder.glob("step-*") if _NAME.fullmatch(path.name)]
    return sorted(named, key=_step_of, reverse=True)


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def _remove(checkpoint: Path) -> None:
    """Delete a folder so that a kill half-way leaves no half checkpoint under a final name."""
    doomed = checkpoint.parent / f"{_UNFINISHED}{secrets.token_hex(8)}"
    os.rename(checkpoint, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _newest_whole(folder: Path) -> Path | None:
    faults = []
    for candidate in _folders(folder):
        fault = find_fault(candidate)
        if fault is None:
            return candidate
        faults.append(f"{candidate.name}: {fault}")
        logger.warning("%s is damaged (%s): going back to the checkpoint before it", candidate, fault)
    if faults:
        raise DataError(
            f"{folder}: every checkpoint is damaged ({'; '.join(faults)}); begin again in another --out."
        )
    return None


def _read_state(checkpoint: Path) -> tuple[int, dict[str, Any]]:
    stored: Mapping[str, Any] = json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
    step, state = stored["step"], stored["state"]
    if type(step) is not int or not isinstance(state, dict):
        raise TypeError("it is no state")
    return step, state


def _read(checkpoint: Path) -> Checkpoint:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    step, state = _read_state(checkpoint)
    files = json.loads((checkpoint / _MANIFEST).read_text(encoding="utf-8"))["files"]
    tensors = {}
    for file in (checkpoint / name for name in sorted(files) if name.endswith(".safetensors")):
        try:
            tensors[file.stem] = load_file(str(file))
        except (SafetensorError, OSError) as error:
            raise DataError(f"{file}: no training wrote this ({error}); remove its folder.") from None
    return Checkpoint(step, tensors, state)
