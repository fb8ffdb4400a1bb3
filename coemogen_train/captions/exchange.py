"""One HTTP request to be left at any moment: standard library, no redirects, everything with a limit."""

from __future__ import annotations

import http.client
import io
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .address import ServerAddress
from .caption import CaptionStopped

# An answer has a few kilobytes; with a long train of thought in it, a few hundred.
MAX_REPLY = 4 * 2**20
_POLL = 0.05
_PIECE = 1 << 16
# Head, marks between chunks and what follows them; the body has MAX_REPLY of its own.
_MAX_AROUND = 1 << 20


class ReplyTooLarge(Exception):
    """The server sent more than MAX_REPLY bytes."""


@dataclass(frozen=True)
class Reply:
    """What came back. retry_after: that header as it was sent, "" without one."""

    status: int
    body: bytes
    retry_after: str = ""


def exchange(
    address: ServerAddress,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes | None,
    timeout: float,
    should_stop: Callable[[], bool],
) -> Reply:
    """Send a request and read its reply in a thread, while this one watches the time and `should_stop`.

    timeout: seconds for all of it, however slowly the bytes drip.

    Raises:
        CaptionStopped: within a tenth of a second of should_stop. TimeoutError, OSError,
        http.client.HTTPException, ReplyTooLarge: whatever went wrong.
    """
    request = _Request(address, method, path, dict(headers), body, timeout)
    deadline = time.monotonic() + timeout
    thread = threading.Thread(target=request.run, name="coemogen caption request", daemon=True)
    thread.start()
    try:
        while not request.done.wait(_POLL):
            if should_stop():
                raise CaptionStopped
            if time.monotonic() > deadline:
                raise TimeoutError
    finally:
        request.leave()
    if request.error is not None:
        raise request.error
    if request.reply is None:
        raise http.client.HTTPException("no reply")
    return request.reply


def pause(seconds: float, should_stop: Callable[[], bool]) -> None:
    """Wait, and raise CaptionStopped as soon as `should_stop` says so."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if should_stop():
            raise CaptionStopped
        time.sleep(min(_POLL, left))


class _Request:
    """A request under way in a thread. done is set when reply or error is."""

    def __init__(
        self,
        address: ServerAddress,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes | None,
        timeout: float,
    ):
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(address.host, address.port, timeout=timeout)
        self._connection.response_class = _BoundedResponse
        self._message = (method, address.path + path, body, headers)
        self._socket: socket.socket | None = None
        self._left = False
        self.done = threading.Event()
        self.reply: Reply | None = None
        self.error: Exception | None = None

    def run(self) -> None:
        """Connect, send, read; never raises."""
        try:
            self._connection.connect()
            # Held here, because the connection forgets it where the server closes after its reply.
            self._socket = self._connection.sock
            if not self._left:
                self._connection.request(*self._message)
                self.reply = _read(self._connection)
        except Exception as error:  # told by the thread that waits
            self.error = error
        finally:
            self.done.set()
            self._connection.close()

    def leave(self) -> None:
        """Break the connection off, so that a blocked read returns and the server may stop working."""
        self._left = True
        if self._socket is not None:
            with suppress(OSError):  # closed meanwhile
                self._socket.shutdown(socket.SHUT_RDWR)


class _BoundedResponse(http.client.HTTPResponse):
    """A reply of which no more than a limit is ever read: http.client believes what a server says of its
    chunks, and a chunk of negative length is read to the end, which may never come."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.fp = io.BufferedReader(_Bounded(self.fp, MAX_REPLY + _MAX_AROUND))  # type: ignore[arg-type]


class _Bounded(io.RawIOBase):
    """A stream that raises ReplyTooLarge beyond so many bytes."""

    def __init__(self, stream: io.BufferedIOBase, left: int) -> None:
        self._stream, self._left = stream, left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._stream.readinto1(buffer)
        self._left -= count
        if self._left < 0:
            raise ReplyTooLarge
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()


def _read(connection: http.client.HTTPConnection) -> Reply:
    pieces, size = [], 0
    try:
        response = connection.getresponse()
        while piece := response.read(_PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_REPLY:
                raise ReplyTooLarge
    except ValueError as error:  # lengths that cannot be, for which http.client has no error of its own
        raise http.client.HTTPException(str(error)) from None
    return Reply(response.status, b"".join(pieces), response.getheader("Retry-After") or "")
