"""A review from its start to its end: one at a time per set, and nothing of it is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError
from .images import quiet_pillow
from .review import Journal
from .review_list import SHOWN, ReviewList
from .review_server import ReviewDesk, ReviewServer
from .samples import TrainingSet


def review_set(
    of: TrainingSet,
    show: str = "unreviewed",
    emotion: str | None = None,
    port: int = 0,
    on_open: Callable[[str, int], None] = lambda _url, _total: None,
) -> dict[str, int]:
    """Serve the page until the person ends it, there or with Ctrl-C; then take the verdicts into the set.

    What a killed review left is taken in first. on_open: told the address and how many captions there are.
    Returns: how many captions were accepted, mended, rejected, and how many verdicts were outdated: about
    something else than is in the set by now.
    Raises: DataError for what cannot be shown, or when another review of the set is open; UserError for a
    port that cannot be had.
    """
    folder = of.work_folder("review")
    with _alone(folder, of.root):
        journal = Journal(folder / "journal.jsonl")
        counts = journal.merge(of)
        title = SHOWN.get(show, "") + (f" of {emotion}" if emotion is not None else "")
        desk = ReviewDesk(ReviewList(of, show, emotion), journal, title)
        try:
            with _ended_by_signals(), ReviewServer(desk, port) as server, quiet_pillow():
                on_open(server.url, len(desk.listed))
                server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            pass  # how people end a server
        desk.close()
        more = journal.merge(of)
    return {kind: counts[kind] + more[kind] for kind in counts}


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let a polite request to end count as Ctrl-C. Only the main thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _alone(folder: Path, root: Path) -> Iterator[None]:
    """See that no other review of the set is open; where the disk knows no locks, take care oneself."""
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "open.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise DataError(f"another review of {root} is open: end that one first.") from None
    except (OSError, NotImplementedError):
        pass
    try:
        yield
    finally:
        lock.release()
