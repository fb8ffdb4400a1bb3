"""What is asked of all processes before anything is loaded: can each of them do its part, and do all see the
same folders?
"""

from __future__ import annotations

import platform
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from ..errors import ConfigError, DataError, UserError
from .peers import Peers
from .start import Start

# A network disk may show a new file a moment late.
_SECONDS = 5.0


def begin_together(peers: Peers, begin: Callable[[], Start]) -> Start:
    """Begin in every process; where one of them cannot, none goes on.

    Raises:
        UserError: what was wrong in this process.
        ConfigError: what was wrong in another, with its machine and number; or a training set that another
            machine has otherwise.
    """
    start: Start | UserError
    try:
        start = begin()
    except UserError as error:
        start = error
    here, fault = platform.node(), start if isinstance(start, UserError) else None
    told = peers.gather((here, fault and str(fault), isinstance(fault, DataError)))
    if isinstance(start, UserError):
        raise start
    for index, (host, sentence, of_data) in enumerate(told):
        if sentence is not None:
            hint = f" A{_ALL_SEE[1:]}" if of_data and host != here else ""
            raise ConfigError(f"{host}, {peers.called(index)}: {sentence}{hint}")
    if len({host for host, *_ in told}) > 1:  # of one machine all processes read the same files
        prints = peers.gather(start.fingerprint)
        for (host, *_), fingerprint in zip(told, prints, strict=True):
            if fingerprint != prints[0]:
                raise ConfigError(
                    f"{host}: {start.config.set} is another training set there than on {told[0][0]}: "
                    f"{_ALL_SEE}"
                )
    return start


def check_seen(peers: Peers, out: Path) -> None:
    """Refuse a run's folder that not every process sees; the first one has made it.

    Raises:
        ConfigError: with the name of the machine that does not see it.
    """
    if peers.count == 1:
        return
    token = secrets.token_hex(8)
    mark = out / f".seen-{peers.gather(token)[0]}"
    if peers.main:
        mark.touch()
    try:
        peers.meet()
        seen = peers.gather((platform.node(), _comes(mark)))
    finally:
        if peers.main:
            mark.unlink(missing_ok=True)
    for host, sees in seen:
        if not sees:
            raise ConfigError(
                f"{host} does not see the run's folder {out.absolute()} as {seen[0][0]} does: {_ALL_SEE}"
            )


def _comes(file: Path) -> bool:
    ends = time.monotonic() + _SECONDS
    while not file.exists():
        if time.monotonic() > ends:
            return False
        time.sleep(0.1)
    return True


_ALL_SEE = "all machines of a run must see the same folders, as a network disk shows them."
