"""The shipped workflows in ComfyUI's own front end: opened, saved, run, and honest about what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..captions.openai_server import says, serving
from . import shipped
from .installation import Installation
from .models import Models
from .pictures import assert_pictures
from .server import ComfyServer
from .test_workflows import PICTURES

pytestmark = pytest.mark.browser

BOX = "Emotional prompt"
# What a user wires around it.
_AROUND_THE_BOX = """() => {
  const box = app.graph._nodes[0];
  const add = (type, x) => {
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    node.pos = [x, 0];
    return node;
  };
  const wire = (from, output, to, input) =>
    from.connect(from.outputs.findIndex((slot) => slot.name === output), to,
      to.inputs.findIndex((slot) => slot.name === input));
  const base = add('CheckpointLoaderSimple', -400), plain = add('CLIPTextEncode', 450);
  const latent = add('EmptyLatentImage', 900), sampler = add('KSampler', 1250);
  const decode = add('VAEDecode', 1600), save = add('SaveImage', 1850);
  base.widgets[0].value = 'small.safetensors';
  wire(base, 'MODEL', box, 'model');
  wire(base, 'CLIP', box, 'clip');
  wire(base, 'CLIP', plain, 'clip');
  wire(box, 'count', latent, 'batch_size');
  wire(box, 'model', sampler, 'model');
  wire(box, 'positive', sampler, 'positive');
  wire(plain, 'CONDITIONING', sampler, 'negative');
  wire(latent, 'LATENT', sampler, 'latent_image');
  wire(sampler, 'LATENT', decode, 'samples');
  wire(base, 'VAE', decode, 'vae');
  wire(decode, 'IMAGE', save, 'images');
}"""
HOW_TO_GET_ONE = "no adapter is installed: train one with coemogen_train"


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
    with serving(says()) as script:
        workflow = shipped.small(shipped.read(name), server_url=script.url)
        front_end.load(workflow, name)
        answer = front_end.queue()
        assert answer.status == 200 and not answer.node_errors, answer.messages
        result = front_end.server.wait(answer.id)
    assert result.status == "success", result.error
    assert_pictures(result, PICTURES[name])


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
        if "HiLoRALoader" in shipped.runs(shipped.read(name)).values():
            assert HOW_TO_GET_ONE in "\n".join(front_end.queue().messages)
            front_end.page.keyboard.press("Escape")
    front_end.load(shipped.read("emotion_to_image"))
    front_end.queue()
    assert HOW_TO_GET_ONE in front_end.told()
    front_end.screenshot(tmp_path / "no-adapter.png")


def test_the_emotional_prompt_in_one_box_runs(
    front_end: Any, comfyui: Installation, comfy_server: ComfyServer, tmp_path: Path
) -> None:
    if not comfyui.at_least(0, 30):
        pytest.skip("this ComfyUI serves no subgraphs")
    found = {entry["name"]: key for key, entry in comfy_server.get("/global_subgraphs").items()}
    assert {path.stem for path in shipped.BLUEPRINTS.glob("*.json")} <= set(found)
    blueprint = json.loads(comfy_server.get(f"/global_subgraphs/{found[BOX]}")["data"])
    front_end.load(blueprint, BOX)
    assert not front_end.faults()
    front_end.page.evaluate(_AROUND_THE_BOX)
    front_end.screenshot(tmp_path / "box.png")
    front_end.load(shipped.small(front_end.save()), BOX)
    answer = front_end.queue()
    assert answer.status == 200 and not answer.node_errors, answer.messages
    result = front_end.server.wait(answer.id)
    assert result.status == "success", result.error
    assert_pictures(result, 1)
