"""ComfyUI's own front end in headless Chromium: workflows are opened, saved and run in it as people do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Route, sync_playwright

from .installation import find_chromium
from .server import Answer, ComfyServer

_READY = """() => window.app && window.app.graph && window.app.extensionManager
    && Object.keys(LiteGraph.registered_node_types).length > 50"""
# Subgraphs hold nodes of their own; which nodes are marked as faulty is a matter of the drawn graph.
_FAULTS = """() => {
  const faults = [];
  const look = (graph) => {
    for (const node of graph._nodes) {
      if (node.subgraph) look(node.subgraph);
      else if (!(node.type in LiteGraph.registered_node_types)) faults.push(`unknown node ${node.type}`);
      if (node.has_errors) faults.push(`${node.type} is marked as faulty`);
    }
  };
  look(app.graph);
  for (const box of document.querySelectorAll('[role=dialog], [role=alertdialog], .p-toast-message'))
    if (box.offsetParent !== null) faults.push(box.innerText.trim().replace(/\\s+/g, ' '));
  return faults;
}"""
# What every start of the page asks for and need not find: users' own style sheets, icons, a remote service.
_HARMLESS = ("Failed to load resource", "ComfyApp graph accessed before initialization")
SETTINGS: dict[str, Any] = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasMenu": False,
    "Comfy.Graph.CanvasInfo": False,
}


class FrontEnd:
    """A page with a server's front end; `console` holds the errors it logged since the last `load`.

    Without the tour of a first visit, and without what lies over the canvas.
    """

    def __init__(self, browser: Browser, server: ComfyServer, width: int = 1600, height: int = 940) -> None:
        for key, value in SETTINGS.items():
            server.post(f"/settings/{key}", value)
        self.page, self.server = browser.new_page(viewport={"width": width, "height": height}), server
        self.console: list[str] = []
        page = self.page
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.console.append(str(error)))
        page.route("**/*", self._stay_here)
        page.goto(server.url)
        page.wait_for_function(_READY, timeout=180_000)
        page.wait_for_timeout(1500)  # extensions are set up after the graph is there

    def load(self, workflow: Mapping[str, Any], name: str = "test") -> None:
        """Open a workflow, as a click in the template browser does."""
        self.console.clear()
        self.page.evaluate(
            "async ([graph, name]) => { await app.loadGraphData(graph, true, true, name) }", [workflow, name]
        )
        self.page.wait_for_timeout(700)  # what is missing is told a moment later

    def save(self) -> dict[str, Any]:
        """The open workflow, as the menu's Save writes it."""
        # In the page, since undefined would come here as null.
        return json.loads(self.page.evaluate("JSON.stringify(app.graph.serialize())"))

    def faults(self) -> list[str]:
        """Unknown nodes, nodes marked as faulty, open dialogs and messages, errors in the console."""
        return self.page.evaluate(_FAULTS) + self.console

    def queue(self) -> Answer:
        """Press Run; what the server said to it."""
        with self.page.expect_response(
            lambda answer: answer.url.endswith("/prompt") and answer.request.method == "POST", timeout=60_000
        ) as told:
            self.page.evaluate("() => { app.queuePrompt(0, 1) }")
        return Answer(told.value.status, told.value.json())

    def told(self) -> str:
        """The words in which the front end tells why a run was refused, wherever it shows them."""
        # Where a message in the corner says little, one asks for more, and again.
        for name in ("View details", re.compile("^Info for ")):
            self.page.wait_for_timeout(500)
            button = self.page.get_by_role("button", name=name)
            if button.count():
                button.first.click()
        return self.page.inner_text("body")

    def screenshot(self, path: Path) -> Path:
        self.page.screenshot(path=str(path))
        return path

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(_HARMLESS):
            self.console.append(message.text)

    def _stay_here(self, route: Route) -> None:
        """Nothing but the server is asked: the page looks for news elsewhere."""
        local = route.request.url.startswith((self.server.url, "data:", "blob:"))
        route.continue_() if local else route.abort()


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser for as long as the block."""
    found = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(found) if found else None,
            args=["--no-sandbox"],  # the pages are our own, and containers have no sandbox
        )
        yield browser
        browser.close()
