"""A run followed over ComfyUI's websocket, as the front end follows it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

from .server import Answer, ComfyServer


class Events:
    """Within a `with` block, a client of the server that sees what its own prompts do."""

    def __init__(self, server: ComfyServer) -> None:
        self.server = server
        self.client_id = uuid.uuid4().hex
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def __enter__(self) -> Events:
        import websocket  # websocket-client, of the extra "dev"

        address = self.server.url.replace("http", "ws", 1)
        self._socket = websocket.create_connection(f"{address}/ws?clientId={self.client_id}", timeout=120)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def submit(self, prompt: Mapping[str, Any]) -> Answer:
        """Queue a graph whose events come here."""
        return self.server.submit(prompt, self.client_id)

    def wait_for(self, kind: str, seconds: float = 120) -> dict[str, Any]:
        """The next event of a kind: "execution_start", "executing", "progress", "execution_success" ..."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            told = self._socket.recv()
            if isinstance(told, bytes):
                continue  # a preview picture
            event = json.loads(told)
            self.seen.append((event["type"], event["data"]))
            if event["type"] == kind:
                return event["data"]
        raise TimeoutError(f"no event '{kind}' in {seconds} s, but {[name for name, _ in self.seen]}")
