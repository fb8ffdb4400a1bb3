"""A caption server that answers with anything: the client gives an answer or its own error, in bounded time
and memory.
"""

from __future__ import annotations

import gzip
import json
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from coemogen_train.captions.caption import PLAIN, Answer
from coemogen_train.captions.cleaning import MAX_ANSWER
from coemogen_train.captions.server import ServerCaptioner
from coemogen_train.errors import CaptionError

from .cases import MIB, Case, chance_of
from .values import damaged_text, odd_name, odd_value, places_of

_TIMEOUT = 0.4
# What may pass beyond the client's own limit until it has left: threads end, sockets close.
_LEAVING = 1.0
_ENDLESS = 3.0
# A reply of 4 MiB is held in pieces and whole, by the server too; decoded, rare letters take four bytes each.
_MIB = 64.0
_GOOD: dict[str, Any] = {
    "object": "chat.completion",
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "A dog runs over golden leaves."},
            "finish_reason": "stop",
        }
    ],
    "usage": {"total_tokens": 3},
}
_STATUSES = (
    100,
    101,
    200,
    201,
    204,
    206,
    301,
    302,
    304,
    307,
    400,
    401,
    403,
    404,
    413,
    418,
    422,
    429,
    500,
    503,
    999,
)

Behaviour = Callable[[socket.socket], None]
"""Answers one request."""


def _reply(status: int, body: bytes, headers: str = "") -> Behaviour:
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode("latin-1", "replace")
    return lambda connection: connection.sendall(head + body)


def odd_json(chance: random.Random) -> Behaviour:
    """A completion with any value anywhere, or without a field."""
    body = json.loads(json.dumps(_GOOD))
    inside, key = chance.choice(places_of(body))
    if chance.random() < 0.2:
        del inside[key]
    else:
        inside[key] = chance.choice(
            (odd_value(chance), odd_name(chance), [{"type": "text", "text": odd_value(chance)}])
        )
    return _reply(200, json.dumps(body).encode("utf-8"))


def damaged_json(chance: random.Random) -> Behaviour:
    return _reply(200, damaged_text(chance, json.dumps(_GOOD)).encode("utf-8", "surrogatepass"))


def any_bytes(chance: random.Random) -> Behaviour:
    """A good head and any body, or any bytes instead of HTTP."""
    data = chance.randbytes(chance.choice((0, 1, 100, 70_000)))
    if chance.random() < 0.5:
        return _reply(200, data)
    return lambda connection: connection.sendall(data)


def other_status(chance: random.Random) -> Behaviour:
    """Errors, redirects and what no standard has; with messages of any letters."""
    told = {"error": chance.choice((odd_value(chance), {"message": odd_name(chance)}, odd_name(chance)))}
    headers = chance.choice(
        ("", "Location: http://127.0.0.1:9/v1\r\n", "Retry-After: 0\r\n", "Retry-After: x\r\n")
    )
    return _reply(chance.choice(_STATUSES), json.dumps(told).encode("utf-8"), headers)


def grows(chance: random.Random) -> Behaviour:
    """JSON that is allowed its length and grows in memory, and bodies that claim to be packed."""
    size = chance.choice((100_000, 1_000_000, 4 * MIB - 100))
    unit = chance.choice(("[],", "{},", '{"a":0},', '"ab",', '"é",', "0.5,"))
    many = (unit * (size // len(unit.encode("utf-8")) - 20)).rstrip(",")
    long = json.dumps(_GOOD).replace("A dog", "x" * (size - 1000) + "\N{GRINNING FACE}")
    body = chance.choice((f'{{"choices":[{many}]}}', f"[{many}]", "[" * size, "9" * size, long)).encode(
        "utf-8"
    )
    if chance.random() < 0.3:
        return _reply(200, gzip.compress(bytes(50 * MIB), 1), "Content-Encoding: gzip\r\n")
    return _reply(chance.choice((200, 200, 400)), body)


def odd_head(chance: random.Random) -> Behaviour:
    """Heads that lie: lengths, chunks, lines without end, thousands of fields."""
    body = json.dumps(_GOOD).encode("ascii")
    length = chance.choice((b"-1", b"0", b"99999999999", b"1e3", b"abc", str(len(body) - 3).encode("ascii")))
    chunk = chance.choice(
        (b"-5", b"-FFFFFFFF", b"FFFFFFFFFFFF", b"zz", b"", b"0", f"{len(body):x}".encode("ascii"))
    )
    head = chance.choice(
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + b"\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * chance.choice((99, 5000)) + b"\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n" * chance.choice((1, 1000)) + b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/9.9 200\r\n\r\n",
            b"HTTP/1.1 two OK\r\n\r\n",
            b"ICY 200 OK\r\n\r\n",
            b"\r\n",
        )
    )
    return lambda connection: connection.sendall(head + body)


def endless(chance: random.Random) -> Behaviour:
    """A flood that never ends, in the body, in chunks that lie, in the head, or after it."""
    begin = chance.choice(
        (
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFF\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"",
        )
    )
    piece = chance.choice((b"x" * 65_536, b"X: y\r\n" * 10_000, b"HTTP/1.1 100 Continue\r\n\r\n" * 2000))

    def flood(connection: socket.socket) -> None:
        connection.sendall(begin)
        end = time.monotonic() + _ENDLESS
        while time.monotonic() < end:
            connection.sendall(piece)

    return flood


def drips(chance: random.Random) -> Behaviour:
    """A byte now and then, or none at all."""
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n" + json.dumps(_GOOD).encode("ascii")
    data, pause = data[: chance.choice((0, 5, 60, 300))], chance.choice((0.0, 0.05, 0.2))
    waits = chance.random() < 0.5

    def drip(connection: socket.socket) -> None:
        end = time.monotonic() + _ENDLESS
        for place in range(len(data)):
            if time.monotonic() < end:
                connection.sendall(data[place : place + 1])
                time.sleep(pause)
        if waits:
            time.sleep(max(0.0, min(1.0, end - time.monotonic())))

    return drip


ANSWERS: dict[str, tuple[Callable[[random.Random], Behaviour], float]] = {
    "odd JSON": (odd_json, 6.0),
    "damaged JSON": (damaged_json, 6.0),
    "any bytes": (any_bytes, 3.0),
    "other status": (other_status, 5.0),
    "JSON that grows": (grows, 1.0),
    "odd head": (odd_head, 3.0),
    "endless": (endless, 0.6),
    "drips": (drips, 0.3),
}
"""Ways to answer by name, and how often each is taken: those that wait are dear."""


class ServerTarget:
    """`ServerCaptioner.answer` and `.check` against a server on loopback."""

    def __init__(self, seed: int, work: Path) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self._seed, self._behaviour = seed, _reply(200, b"")
        self._listening = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()
        self._url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/v1"
        self._behaviour = _reply(200, json.dumps(_GOOD).encode("ascii"))
        self._ask("m")

    def case(self, number: int) -> Case:
        chance = chance_of(self._seed, "server", number)
        name = chance.choices(list(ANSWERS), [often for _, often in ANSWERS.values()])[0]
        listing = chance.random() < 0.2
        content = f"{name}, seed {self._seed}, case {number}".encode("ascii")

        self._behaviour = ANSWERS[name][0](chance)

        def run() -> Answer:
            return self._ask("" if listing else "m")

        return Case(
            name, run, CaptionError, content, _judge, seconds=2 * _TIMEOUT + _LEAVING, mib=_MIB, waits=True
        )

    def _ask(self, model: str) -> Answer:
        captioner = ServerCaptioner(self._url, model, timeout=_TIMEOUT, tries=1, environment={})
        return captioner.answer(None, "What is seen?", PLAIN, lambda: False, lambda _count: None)

    def _serve(self) -> None:
        while True:
            connection, _ = self._listening.accept()
            threading.Thread(target=self._answer, args=(connection, self._behaviour), daemon=True).start()

    @staticmethod
    def _answer(connection: socket.socket, behaviour: Behaviour) -> None:
        with suppress(OSError), connection:
            connection.settimeout(2 * _ENDLESS)
            connection.recv(1 << 16)
            behaviour(connection)
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            connection.settimeout(0.2)
            while connection.recv(1 << 16):  # closing over unread bytes would reset what was sent
                pass


def _judge(answer: Answer) -> str:
    if not isinstance(answer.text, str) or len(answer.text) > MAX_ANSWER:
        return f"this is no answer: {answer!r:.300}"
    return ""
