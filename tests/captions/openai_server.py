"""A real HTTP server on loopback that speaks OpenAI's interface as well, or as badly, as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SENTENCE = "A brown dog leaps through golden leaves while a girl laughs."
Behaviour = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Hands every request to the next behaviour; the last one stays."""

    protocol_version = "HTTP/1.1"
    script: Script
    body: Any = None

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.body = json.loads(sent) if sent else None
        with self.script.lock:
            self.script.requests.append(Request(self.command, self.path, dict(self.headers), self.body))
            if self.path.endswith("/models") and self.script.models is not None:
                behaviour = self.script.models
            elif len(self.script.answers) > 1:
                behaviour = self.script.answers.pop(0)
            else:
                behaviour = self.script.answers[0]
        behaviour(self)

    def reply(self, status: int, body: bytes | str | dict[str, Any], **headers: str) -> None:
        """Send a whole reply."""
        if isinstance(body, dict):
            body = json.dumps(body)
        data = body.encode("utf-8") if isinstance(body, str) else body
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments: Any) -> None:
        """Nothing on the terminal."""


@dataclass
class Request:
    """What came in; header names as they were sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Script:
    """How the server behaves, and what it was asked."""

    answers: list[Behaviour]
    models: Behaviour | None = None
    requests: list[Request] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""


def completion(text: Any, finish_reason: str = "stop") -> dict[str, Any]:
    """A chat completion's object."""
    message = {"role": "assistant", "content": text}
    return {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
    }


def says(text: Any = SENTENCE, finish_reason: str = "stop") -> Behaviour:
    """Answer with a completion."""
    return lambda handler: handler.reply(200, completion(text, finish_reason))


def fails(status: int, body: bytes | str | dict[str, Any] = b"", **headers: str) -> Behaviour:
    """Answer with any status, body and headers."""
    return lambda handler: handler.reply(status, body, **headers)


def lists(*names: str) -> Behaviour:
    """List these models."""
    return lambda handler: handler.reply(200, {"object": "list", "data": [{"id": name} for name in names]})


def hangs_up(handler: Handler) -> None:
    """Close the connection without a word."""
    handler.close_connection = True
    handler.connection.close()


@contextmanager
def serving(*answers: Behaviour, models: Behaviour | None = None, port: int = 0) -> Iterator[Script]:
    """Serve on a port of this machine, any free one unless told, for the length of the block."""
    script = Script(list(answers), models or lists("tiny-vision"))
    server = ThreadingHTTPServer(("127.0.0.1", port), type("Scripted", (Handler,), {"script": script}))
    server.daemon_threads = True
    script.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
