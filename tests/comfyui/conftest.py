"""Fixtures for tests against a real ComfyUI.

`comfyui` (session)
    Where it is and which version: `comfyui.at_least(0, 30)`.
`models` (session)
    The models folder that all servers share. Files are made when they are first asked for, and named so:
    `models.checkpoint("small" | "names" | "full", vae="tiny" | "kl")`, `models.adapter("small", **choices)`,
    `models.controlnet("small")`, `models.clip_vision()`, `models.clip_text()`, `models.sdxl()`,
    `models.damaged_adapter()`, `models.adapter_of_another_width()`, `models.adapter_of_another_taxonomy()`:
    each gives the name for the loader's menu; `models.path("checkpoints", name)` the file.
    "small.safetensors" is there from the start, as checkpoint and as adapter.
`comfy_server` (session)
    A `ComfyServer` with the pack and `probe_nodes.py`: `run(prompt)` must succeed and gives outputs and
    pictures, `fault(prompt)` must fail and gives the words, `probed(name)` reads what a probe saved.
`start_server` (session)
    A factory for other flags: `start_server("--cpu", "--force-fp32", "--fp32-text-enc")`, `adapters=False`
    for a fresh installation. Equal arguments give the same server; all end with the session.
`listen` (function)
    `with listen(server) as events:` follows a run over the websocket, for interrupts:
    `events.submit(prompt)`, `events.wait_for("progress")`.

Graphs are written with `graphs.Graph`; `assert_pictures(result, 2)` checks them. Mark a module with
`pytestmark = pytest.mark.comfyui` (or `browser`). Sizes that tests can afford: 64 x 64 pictures, 2 steps.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from .events import Events
from .installation import Installation, find_comfyui
from .models import Models
from .server import ComfyServer


@pytest.fixture(scope="session")
def comfyui() -> Installation:
    return find_comfyui()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    made = Models(tmp_path_factory.mktemp("models"))
    made.checkpoint("small")
    made.adapter("small")
    yield made
    # Gigabytes, where pytest keeps the folders of three runs; a server on Windows may still hold a file.
    shutil.rmtree(made.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def start_server(
    comfyui: Installation, models: Models, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., ComfyServer]]:
    servers: dict[Any, ComfyServer] = {}
    with ExitStack() as stack:

        def start(*flags: str, pack: Path | None = repository, adapters: bool = True) -> ComfyServer:
            key = (flags or ("--cpu",), pack, adapters)
            if key not in servers:
                room = tmp_path_factory.mktemp("server")
                server = ComfyServer(comfyui, room, models.folder, pack, key[0], adapters)
                servers[key] = stack.enter_context(server)
            return servers[key]

        yield start


@pytest.fixture(scope="session")
def comfy_server(start_server: Callable[..., ComfyServer]) -> ComfyServer:
    return start_server()


@pytest.fixture
def listen() -> Callable[[ComfyServer], Events]:
    return Events
