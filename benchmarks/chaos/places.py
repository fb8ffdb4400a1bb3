"""Disasters of the place: a disk that fills while a run writes, folders in which nothing can be written."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks.chaos.disasters import Disaster, Ground, Skipped, Wrong, paused_at_step, refused, untouched
from benchmarks.chaos.folder import KEPT, STEPS, Folder, result, when
from benchmarks.chaos.kills import writing
from benchmarks.chaos.launch import Training

_MIB = 1 << 20
_DISK = 160 * _MIB


def full_disk(
    ground: Ground,
    root: Path,
    begun: bool,
    until: Callable[[Folder, Training], None],
    room: int,
    changes: dict[str, object],
) -> str:
    """Fill the run's disk down to `room` bytes at a moment; afterwards nothing is lost, and it goes on.

    begun: whether the run is half done already. until: waits for the moment, and lets the training stand.
    """
    with _small_disk(root):
        start = ground.half if begun else ground.clean
        folder = start.copy(root / "disk")
        ballast, training = root / "ballast", folder.train(**changes)
        until(folder, training)
        _fill(ballast, room)
        training.go_on()
        told = refused(folder, training)
        saved = folder.saved
        if begun and saved < start.saved:
            raise Wrong(f"checkpoints are lost: {saved} is the newest, {start.saved} was")
        ballast.unlink()
        ground.ends_equal(folder)
    return told


def small_files(ground: Ground, root: Path) -> str:
    """No file may grow past a mebibyte, as where a quota or a file system's own limit refuses."""
    if os.name == "nt":
        raise Skipped("Windows limits no files by size")
    folder = ground.clean.copy(root)
    told = refused(folder, folder.train(under="small files"))
    ground.ends_equal(folder)
    return told


def read_only_run(ground: Ground, root: Path) -> str:
    """A folder of a run that cannot be written from the start."""
    folder = ground.half.copy(root)
    before = result(folder)
    with _read_only(folder.run):
        told = refused(folder, folder.train())
    untouched(folder, before)
    ground.ends_equal(folder)
    return told


def run_made_read_only(ground: Ground, root: Path) -> str:
    """A folder that turns read-only while the run is at work, as a disk does that has faults."""
    folder = ground.half.copy(root)
    with ExitStack() as stack:
        training = folder.train()
        paused_at_step(folder, training)
        stack.enter_context(_read_only(folder.run))
        training.go_on()
        told = refused(folder, training)
    ground.ends_equal(folder)
    return told


def read_only_set(ground: Ground, root: Path) -> str:
    """A set that cannot be written and whose cache is complete: there is nothing to write."""
    folder = ground.half.copy(root)
    with _read_only(folder.set):
        ground.ends_equal(folder)
    return "its cache is complete: the run went on and ended as undisturbed"


def read_only_uncached(ground: Ground, root: Path) -> str:
    """A set that cannot be written and has no cache yet."""
    folder = ground.clean.copy(root)
    before = result(folder)
    with _read_only(folder.set):
        told = refused(folder, folder.train())
    untouched(folder, before)
    ground.ends_equal(folder)
    return told


def _at_the_cache(folder: Folder, training: Training) -> None:
    when(training, lambda: (folder.run / ".lock.pid").exists())
    training.suspend()


def _at_the_adapter(folder: Folder, training: Training) -> None:

    def comes() -> bool:  # not before the oldest checkpoint is gone, which makes room
        return folder.saved == STEPS and len(folder.checkpoints) == KEPT and not writing(folder)

    when(training, comes, 0.0005)
    training.suspend()


DISASTERS = [
    Disaster("files_of_one_mebibyte", small_files),
    Disaster(
        "full_disk_at_the_cache",
        partial(full_disk, begun=False, until=_at_the_cache, room=64 << 10, changes={}),
    ),
    Disaster(
        "full_disk_at_a_checkpoint",
        partial(full_disk, begun=True, until=paused_at_step, room=_MIB // 2, changes={}),
        quick=True,
    ),
    Disaster(
        # Without checkpoints in between, the history is the next to ask for room.
        "full_disk_at_the_history",
        partial(full_disk, begun=True, until=paused_at_step, room=0, changes={"save_every": 0}),
    ),
    Disaster(
        "full_disk_at_the_adapter",
        partial(full_disk, begun=True, until=_at_the_adapter, room=64 << 10, changes={}),
    ),
    Disaster("read_only_run_folder", read_only_run, quick=True),
    Disaster("run_folder_turns_read_only", run_made_read_only),
    Disaster("read_only_set_with_its_cache", read_only_set),
    Disaster("read_only_set_without_cache", read_only_uncached),
]


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    """A disk of its own in memory. Raises: Skipped where the system gives none."""
    folder.mkdir(parents=True)
    _mount(f"-t tmpfs -o size={_DISK} tmpfs {folder}", "a small disk needs root on Linux (mount -t tmpfs)")
    try:
        yield
    finally:
        _unmount(folder)


@contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    """A folder in which nothing can be written meanwhile; root is held back by a mount alone."""
    if os.name == "nt":
        raise Skipped("Windows has no read-only folders")
    if os.geteuid() == 0:
        why = "as root, a read-only folder needs a mount (Linux, mount --bind)"
        _mount(f"--bind {folder} {folder}", why)
        try:
            _mount(f"-o remount,ro,bind {folder}", why)
            yield
        finally:
            _unmount(folder)
        return
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    try:
        yield
    finally:
        for path in folders:
            path.chmod(0o755)


def _mount(arguments: str, why: str) -> None:
    try:
        subprocess.run(["mount", *arguments.split()], check=True, capture_output=True)  # noqa: S603, S607
    except (OSError, subprocess.CalledProcessError):
        raise Skipped(why) from None


def _unmount(folder: Path) -> None:
    for _ in range(50):
        done = subprocess.run(["umount", str(folder)], capture_output=True)  # noqa: S603, S607
        if done.returncode == 0:
            return
        time.sleep(0.1)


def _fill(ballast: Path, room: int) -> None:
    """Write a file beside the run that leaves so many bytes free."""
    left = shutil.disk_usage(ballast.parent).free - room
    with ballast.open("wb", buffering=0) as file:
        while left > 0:
            left -= file.write(bytes(min(left, _MIB)))
