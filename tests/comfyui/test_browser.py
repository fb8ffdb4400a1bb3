"""The shipped workflows in ComfyUI's own front end: opened, saved, run, and honest about what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from . import shipped
from .models import Models
from .pictures import assert_pictures
from .server import ComfyServer

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from .front_end import chromium

    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def front_end(browser: Any, comfy_server: ComfyServer, models: Models) -> Any:
    from .front_end import FrontEnd

    shipped.make_its_models(models)
    shipped.make_its_picture(comfy_server)
    return FrontEnd(browser, comfy_server)


def kept(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Where `after` says something else than `before`; what a later front end adds is no difference."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            yield from kept(value, after.get(key), f"{path}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from kept(one, other, f"{path}[{index}]")
    elif before != after:
        yield f"{path}: {before!r} became {after!r}"


@pytest.mark.parametrize("name", shipped.NAMES)
def test_a_workflow_opens_without_complaint_and_is_saved_as_it_was(
    front_end: Any, name: str, tmp_path: Path
) -> None:
    front_end.load(shipped.read(name), name)
    front_end.screenshot(tmp_path / f"{name}.png")
    assert not front_end.faults()
    saved = front_end.save()
    assert not list(kept(shipped.read(name), saved | {"extra": shipped.read(name)["extra"]}))
    front_end.load(saved, name)
    assert front_end.save() == saved


@pytest.mark.parametrize("name", shipped.NAMES)
def test_a_workflow_runs_to_success(front_end: Any, name: str) -> None:
    front_end.load(shipped.small(shipped.read(name)), name)
    answer = front_end.queue()
    assert answer.status == 200 and not answer.node_errors, answer.messages
    result = front_end.server.wait(answer.id)
    assert result.status == "success", result.error
    assert_pictures(result, len(result.pictures))


def test_with_no_adapter_every_workflow_opens_and_says_how_to_get_one(
    browser: Any, start_server: Callable[..., ComfyServer], models: Models, tmp_path: Path
) -> None:
    from .front_end import FrontEnd

    shipped.make_its_models(models)
    server = start_server(adapters=False)
    shipped.make_its_picture(server)
    front_end = FrontEnd(browser, server)
    for name in shipped.NAMES:
        front_end.load(shipped.read(name), name)
        assert not front_end.faults(), name
        if "HiLoRALoader" not in {node["type"] for node in shipped.read(name)["nodes"]}:
            continue
        answer = front_end.queue()
        assert "no adapter is installed: train one with coemogen_train" in "\n".join(answer.messages)
        assert "no adapter is installed: train one with coemogen_train" in front_end.told()
        front_end.screenshot(tmp_path / f"{name}.png")
        front_end.page.keyboard.press("Escape")
