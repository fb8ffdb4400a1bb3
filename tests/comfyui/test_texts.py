"""The texts as ComfyUI serves and shows them: those of the nodes, in two languages, help and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ..nodes.test_texts import DOCS, LANGUAGES, NODES, PAGES, SIGNS, locale, page, page_path, pictures
from .server import PACK_NAME, ComfyServer

PNG = b"\x89PNG"
TITLE = (900, 400)  # where a node is put: right of all that opens at the left, below what stands above it


@pytest.fixture(scope="module")
def said(comfy_server: ComfyServer) -> dict[str, Any]:
    """What the nodes say of themselves, in the form of a locale."""
    return {name: as_locale(comfy_server.object_info(name)) for name in NODES}


def as_locale(told: dict[str, Any]) -> dict[str, Any]:
    inputs = {
        name: {"name": options[1].get("display_name") or name, "tooltip": options[1]["tooltip"]}
        for group in ("required", "optional")
        for name, options in told["input"].get(group, {}).items()
    }
    outputs = {
        str(place): {"name": name, "tooltip": tooltip}
        for place, (name, tooltip) in enumerate(
            zip(told["output_name"], told["output_tooltips"] or [], strict=True)
        )
    }
    texts = {"display_name": told["display_name"], "description": told["description"], "inputs": inputs}
    return texts | ({"outputs": outputs} if outputs else {})


def translatable(tree: dict[str, Any]) -> dict[str, Any]:
    """Without the texts that hold a sign: those the front end takes from the node itself."""
    return {
        key: translatable(value) if isinstance(value, dict) else value
        for key, value in tree.items()
        if isinstance(value, dict) or not SIGNS.search(value)
    }


def places(tree: dict[str, Any]) -> dict[str, Any]:
    return {key: places(value) if isinstance(value, dict) else None for key, value in tree.items()}


@pytest.mark.comfyui
def test_english_is_what_the_nodes_say(said: dict[str, Any]) -> None:
    assert locale("en") == translatable(said)


@pytest.mark.comfyui
def test_chinese_says_all_that_the_nodes_say(said: dict[str, Any]) -> None:
    assert places(locale("zh")) == places(said)


@pytest.mark.comfyui
def test_comfyui_serves_both_languages(comfy_server: ComfyServer) -> None:
    served = comfy_server.get("/i18n")
    for language in LANGUAGES:
        assert {name: served[language]["nodeDefs"][name] for name in NODES} == locale(language)


@pytest.mark.comfyui
@pytest.mark.parametrize(("node", "language"), PAGES)
def test_comfyui_serves_help_pages_and_their_pictures(
    comfy_server: ComfyServer, node: str, language: str
) -> None:
    base = f"/extensions/{PACK_NAME}/docs"
    path = page_path(node, language)
    served = comfy_server.read(f"{base}/{path.relative_to(DOCS).as_posix()}")
    assert served.decode("utf-8") == page(node, language)
    for address in pictures(page(node, language)):
        assert comfy_server.read(f"{base}/{address}").startswith(PNG)


@pytest.mark.comfyui
@pytest.mark.parametrize("node", NODES)
def test_help_pages_explain_every_input_and_output(said: dict[str, Any], node: str) -> None:
    for language in LANGUAGES:
        text, texts = page(node, language), said[node] if language == "en" else locale("zh")[node]
        assert text.startswith(f"# {texts['display_name']}\n")
        for name, told in texts["inputs"].items():
            assert f"**{told['name']}**" in text
            assert language == "en" or f"\uff08{name}" in text  # in Chinese brackets
        for told in texts.get("outputs", {}).values():
            assert f"**{told['name']}**" in text


@pytest.fixture(scope="module", params=LANGUAGES)
def front_end(request: pytest.FixtureRequest, comfy_server: ComfyServer) -> Iterator[tuple[Any, str]]:
    """The front end in a language, and which."""
    from .front_end import FrontEnd, chromium

    comfy_server.post("/settings/Comfy.Locale", request.param)
    try:
        with chromium() as browser:
            yield FrontEnd(browser, comfy_server), request.param
    finally:
        comfy_server.post("/settings/Comfy.Locale", "en")


@pytest.mark.browser
@pytest.mark.parametrize("node", NODES)
def test_help_opens_with_its_pictures(front_end: tuple[Any, str], node: str) -> None:
    window, language = front_end
    browser = window.page
    left, top = browser.evaluate(
        """([type, pos]) => {
          app.graph.clear();
          const node = LiteGraph.createNode(type), frame = app.canvas.canvas.getBoundingClientRect();
          app.graph.add(node);
          node.pos = pos;
          [app.canvas.ds.scale, app.canvas.ds.offset] = [1, [0, 0]];
          app.canvas.setDirty(true, true);
          return [frame.left, frame.top];
        }""",
        [node, TITLE],
    )
    browser.wait_for_timeout(500)
    browser.mouse.click(left + TITLE[0] + 60, top + TITLE[1] - 15)
    help_panel = browser.locator(".node-help-content")
    browser.get_by_test_id("info-button").click()
    help_panel.get_by_role("heading", name=locale(language)[node]["display_name"], exact=True).wait_for()
    browser.wait_for_timeout(1000)
    shown_pictures = help_panel.locator("img").evaluate_all("all => all.map((image) => image.naturalWidth)")
    assert len(shown_pictures) == len(pictures(page(node, language)))
    assert min(shown_pictures) > 200
