"""A run's folder belongs to one living process: two would write into each other's checkpoints."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import ConfigError

logger = logging.getLogger(__name__)

_NO_LOCKS_HERE = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextmanager
def run_lock(out: Path) -> Iterator[None]:
    """Make the folder `out` and keep it for this process while entered; of several, the main one locks.

    The lock is the operating system's on `out/.lock`: it goes with its process, however that dies, and what
    is left of the file means nothing. The process's number stands in `out/.lock.pid`, to be told to people.

    Raises:
        ConfigError: another run holds the folder, or it cannot be written.
    """
    from filelock import FileLock, Timeout

    lock, process = FileLock(out / ".lock"), out / ".lock.pid"
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(
            f"{out} is in use by a running training{_named(process)}: wait for it, stop it, or choose "
            "another --out."
        ) from None
    except (OSError, NotImplementedError) as error:  # older filelocks have the latter for ENOSYS
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS_HERE:
            raise ConfigError(
                f"{out}: the folder of the run cannot be written ({error.strerror}); choose another --out."
            ) from None
        logger.warning("the disk of %s knows no locks: take care that no second training uses it", out)
    try:
        with suppress(OSError):
            process.write_text(str(os.getpid()), encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            process.unlink()
        lock.release()


def _named(process: Path) -> str:
    try:
        return f" (process {int(process.read_text(encoding='utf-8'))})"
    except (OSError, ValueError):  # just beginning, or just ending
        return ""
