"""Draw the shipped workflows' thumbnails anew: `python -m tests.comfyui.redraw`, after a layout was changed.

To change a workflow, open it in ComfyUI (0.3.64, so that older front ends can read it), save it, and copy it.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from . import shipped
from .front_end import FrontEnd, chromium
from .installation import find_comfyui
from .models import Models
from .server import ComfyServer

_MOVE = """([x, y]) => {
  app.canvas.ds.scale = 1;
  app.canvas.ds.offset = [x, y];
  app.canvas.setDirty(true, true);
  return app.canvas.canvas.getBoundingClientRect();
}"""
WIDTH = 640
MARGIN = 40
# Room for a graph of 2400 x 1500 at scale 1, where text is drawn sharply.
PAGE = (2700, 1900)


def drawn(front_end: FrontEnd, workflow: dict[str, Any]) -> Image.Image:
    """The graph as the front end draws it, cut to its groups and notes."""
    boxes = [(*node["pos"], *node["size"]) for node in workflow["nodes"]]
    boxes += [group["bounding"] for group in workflow["groups"]]
    left, top = min(box[0] for box in boxes) - MARGIN, min(box[1] for box in boxes) - MARGIN - 30
    right, bottom = (max(box[i] + box[i + 2] for box in boxes) + MARGIN for i in (0, 1))
    front_end.load(workflow)
    # 100 pixels from the canvas's corner, clear of what lies over it.
    corner = front_end.page.evaluate(_MOVE, [100 - left, 100 - top])
    front_end.page.wait_for_timeout(1500)
    clip = {"x": corner["x"] + 100, "y": corner["y"] + 100, "width": right - left, "height": bottom - top}
    return Image.open(io.BytesIO(front_end.page.screenshot(clip=clip))).convert("RGB")


def main() -> None:
    """Every thumbnail, beside its workflow."""
    with tempfile.TemporaryDirectory() as room:
        models = Models(Path(room) / "models")
        models.adapter()
        shipped.make_its_models(models)
        repository = shipped.WORKFLOWS.parent
        server = ComfyServer(find_comfyui(), Path(room) / "server", models.folder, repository)
        with server, chromium() as browser:
            shipped.make_its_picture(server)
            front_end = FrontEnd(browser, server, *PAGE)
            for name in shipped.NAMES:
                picture = drawn(front_end, shipped.read(name))
                size = (WIDTH, round(WIDTH * picture.height / picture.width))
                path = shipped.WORKFLOWS / f"{name}.jpg"
                picture.resize(size, Image.Resampling.LANCZOS).save(path, quality=85, optimize=True)
                print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
