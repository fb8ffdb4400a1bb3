"""Answers on their way into a set's captions table, so that none is lost and none is asked for twice.

    SET/.work/caption/tables.lock          held by who reads and replaces the table
    SET/.work/caption/<plan>/job.json      what the plan is for
    SET/.work/caption/<plan>/live/         a lock per process that works on it
    SET/.work/caption/<plan>/parts/*.journal  answers of a part under way, a line each, on the disk at once
    SET/.work/caption/<plan>/parts/*.jsonl    answers of a part that is whole

Whoever starts first moves into the table what killed processes left, of whatever plan; whoever ends, in
whatever way, moves in what is there.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..files import atomic_write_text, canonical_json, sweep_parts
from . import tables
from .captioning_jobs import Job, Standing, job_from_dict, job_to_dict
from .rows import side_by_side
from .samples import TrainingSet

logger = logging.getLogger(__name__)

_LOCK = "tables.lock"
_JOB = "job.json"
_AT_ONCE = 8192


class Journal:
    """The answers of one part, each on the disk before the next is waited for. For several threads."""

    def __init__(self, path: Path):
        self._path = path
        self._lock = threading.Lock()

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows; a process that is killed here leaves at most its last line unreadable."""
        lines = "".join(canonical_json(row) + "\n" for row in rows).encode("utf-8")
        with self._lock, self._path.open("ab") as stream:
            if _torn(self._path):
                lines = b"\n" + lines
            stream.write(lines)
            stream.flush()
            os.fsync(stream.fileno())


def read_answers(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of a journal or of a whole part by id; what is no row is passed over."""
    found = {}
    with suppress(FileNotFoundError):
        for line in path.read_bytes().split(b"\n"):
            try:
                row = json.loads(line)
                if isinstance(row["id"], str) and isinstance(row["sha256"], str):
                    found[row["id"]] = row
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
    return found


@contextmanager
def table_lock(of: TrainingSet) -> Iterator[None]:
    """Within the block no other `caption` reads or replaces the set's captions table."""
    folder = of.work_folder("caption")
    folder.mkdir(parents=True, exist_ok=True)
    lock = _lock(folder / _LOCK)
    try:
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        logger.warning("the disk of %s knows no locks (%s): run one process at a time", folder, error)
    try:
        yield
    finally:
        lock.release()


class Desk:
    """A plan's folder while this process works on it. To be made and left within `table_lock`."""

    def __init__(self, of: TrainingSet, job: Job, plan: str):
        self.folder = of.work_folder("caption") / f"{job.kind}-{plan[:16]}"
        self.parts = self.folder / "parts"
        self._live = self.folder / "live"
        self._live.mkdir(parents=True, exist_ok=True)
        self.parts.mkdir(exist_ok=True)
        atomic_write_text(self.folder / _JOB, canonical_json(job_to_dict(job)))
        self._lock = _lock(self._live / f"{os.getpid()}-{secrets.token_hex(4)}.lock")
        with suppress(OSError, NotImplementedError):
            self._lock.acquire(timeout=0)

    def leave(self, settled: bool) -> None:
        """Stop working on it. settled: its answers are in the table, so that the last to leave clears it."""
        self._lock.release()
        with suppress(OSError):
            Path(self._lock.lock_file).unlink(missing_ok=True)
        if settled and not _is_alive(self.folder):
            shutil.rmtree(self.folder, ignore_errors=True)


def recover(of: TrainingSet) -> int:
    """Move into the table what killed processes left, unless others still work on the same plan.

    To be called within `table_lock`. Returns: how many answers that were.
    """
    found = 0
    sweep_parts(of.root)  # of a table whose writer was killed
    work = of.work_folder("caption")
    for folder in sorted(path for path in work.iterdir() if path.is_dir()):
        if _is_alive(folder):
            continue
        try:
            job = job_from_dict(json.loads((folder / _JOB).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # nobody's, or another version's
        found += merge_answers(of, job, folder / "parts")
        shutil.rmtree(folder, ignore_errors=True)
    return found


def merge_answers(of: TrainingSet, job: Job, parts: Path) -> int:
    """Put the answers of a plan into the captions table, those that still fit; to be called within
    `table_lock`.

    Memory holds the ids of the answers, never all of their text. Returns: how many rows changed.
    """
    with tempfile.TemporaryFile() as spool:
        places: list[tuple[str, int]] = []
        if parts.is_dir():
            for path in sorted(parts.iterdir(), reverse=True):
                if path.suffix in (".journal", ".jsonl"):
                    for key, row in read_answers(path).items():
                        if "problem" not in row:
                            places.append((key, spool.tell()))
                            spool.write(canonical_json(row).encode("utf-8") + b"\n")
        if not places:
            return 0
        places.sort()
        changed = _Count()
        of.reload()
        of.write_captions(_merged(of, job, _spooled(spool, places), changed))
        return changed.value


def standings(of: TrainingSet) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Each sample (id, sha256, emotion, split) with its row of the captions table, in the order of ids."""
    table = of.root / "captions.parquet"
    for sample, row in side_by_side(_samples(of), tables.iterate_table(table, tables.CAPTIONS)):
        if sample is not None:
            yield sample, row


class _Count:
    value = 0


def _merged(
    of: TrainingSet, job: Job, answers: Iterator[dict[str, Any]], changed: _Count
) -> Iterator[dict[str, Any]]:
    table = tables.iterate_table(of.root / "captions.parquet", tables.CAPTIONS)
    pairs = (
        {"id": (old or new or {})["id"], "old": old, "new": new} for old, new in side_by_side(table, answers)
    )
    for sample, pair in side_by_side(_samples(of), pairs):
        if pair is None:
            continue
        row = None
        if sample is not None and pair["new"] and job.standing(sample, pair["old"]) is Standing.OPEN:
            row = job.merged(sample, pair["old"], pair["new"])
        changed.value += row is not None
        if row is not None or pair["old"] is not None:
            yield row if row is not None else pair["old"]


def _samples(of: TrainingSet) -> Iterator[dict[str, Any]]:
    columns = of.samples().columns("id", "sha256", "emotion", "split")
    for start in range(0, len(columns), _AT_ONCE):
        yield from columns.slice(start, _AT_ONCE).to_pylist()


def _spooled(spool: Any, places: list[tuple[str, int]]) -> Iterator[dict[str, Any]]:
    """The rows at these places, of those with one id the first."""
    last = None
    for key, place in places:
        if key != last:
            spool.seek(place)
            yield json.loads(spool.readline())
        last = key


def _is_alive(folder: Path) -> bool:
    """Whether a process works on a plan; on a disk without locks nobody can tell, and it counts as so."""
    for path in (folder / "live").glob("*.lock"):
        lock = _lock(path)
        try:
            lock.acquire(timeout=0)
        except Exception:  # held, or not to be had
            return True
        lock.release()
    return False


def _torn(path: Path) -> bool:
    """Whether the last line of a file lacks its end."""
    with path.open("rb") as stream:
        if stream.seek(0, os.SEEK_END) == 0:
            return False
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) != b"\n"


def _lock(path: Path) -> Any:
    from filelock import FileLock

    return FileLock(path, thread_local=False)
