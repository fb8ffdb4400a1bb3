"""Takes the help pages' pictures from the real front end: `python -m tests.comfyui.help_pictures`.

Once in English (`areas.png`) and once in Chinese (`areas-zh.png`); to be run when a node's widgets or texts
have changed, with today's ComfyUI (COMFYUI_PATH). For the Chinese ones the machine needs a Chinese font.
"""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from . import shipped
from .front_end import FrontEnd, chromium
from .installation import find_comfyui
from .models import Models
from .server import ComfyServer

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "web" / "docs"
ADAPTER = "eight_emotions"
CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
CLIP = "clip-vit-large-patch14.safetensors"
PICTURE = "evening.png"
MARGIN = 24
COLOURS = 255
LANGUAGES = {"en": "", "zh": "-zh"}

# Every node has an id of its own: the front end remembers values and pictures by it.
_DRAW = """([nodes, links]) => {
  app.graph.clear();
  const made = {};
  window.taken = window.taken ?? 1000;
  for (const [name, {type, pos, width, widgets}] of Object.entries(nodes)) {
    const node = LiteGraph.createNode(type);
    node.id = ++window.taken;
    app.graph.add(node);
    node.pos = pos;
    node.setSize([width, node.computeSize()[1]]);
    for (const [key, value] of Object.entries(widgets)) {
      const widget = node.widgets.find((widget) => widget.name === key);
      widget.value = value;
      widget.callback?.(value);
    }
    made[name] = node;
  }
  for (const [from, output, to, input] of links)
    made[from].connect(output, made[to], made[to].findInputSlot(input));
}"""
# The graph at its own size, its corner where no panel covers it; gives width and height.
_PLACE = """([left, top, margin]) => {
  const all = app.graph._nodes, canvas = app.canvas, title = LiteGraph.NODE_TITLE_HEIGHT;
  const frame = canvas.canvas.getBoundingClientRect();
  const [x, y] = [0, 1].map((axis) => Math.min(...all.map((node) => node.pos[axis])));
  const end = (axis) => Math.max(...all.map((node) => node.pos[axis] + node.size[axis]));
  canvas.ds.scale = 1;
  canvas.ds.offset = [left + margin - frame.left - x, top + margin + title - frame.top - y];
  canvas.deselectAll();
  canvas.setDirty(true, true);
  return [end(0) - x + 2 * margin, end(1) - y + title + 2 * margin];
}"""


@dataclass(frozen=True)
class Scene:
    """Nodes as (type, x, y, width, widgets) by name, and wires as (from, output, to, input)."""

    nodes: dict[str, tuple[str, int, int, int, dict[str, Any]]]
    links: list[tuple[str, int, str, str]] = field(default_factory=list)


def loader(x: int, y: int, **widgets: Any) -> tuple[str, int, int, int, dict[str, Any]]:
    chosen = {"adapter": f"{ADAPTER}.safetensors", "emotion": "awe"}
    return "HiLoRALoader", x, y, 300, chosen | widgets


def conditioner(x: int, y: int, prompt: str = "{emotion}") -> tuple[str, int, int, int, dict[str, Any]]:
    return "EmotionConditioner", x, y, 300, {"prompt": prompt}


_CHECKPOINT = ("CheckpointLoaderSimple", 0, 0, 300, {"ckpt_name": CHECKPOINT})

SCENES = {
    "HiLoRALoader/node": Scene({"loader": loader(0, 0)}),
    "HiLoRALoader/graph": Scene(
        {
            "base": _CHECKPOINT,
            "loader": loader(0, 160),
            "scenes": ("GaussianEmotionSampler", 350, 0, 300, {"seed": 7}),
            "positive": conditioner(350, 230),
            "negative": ("CLIPTextEncode", 350, 480, 300, {"text": ""}),
            "latent": ("EmptyLatentImage", 700, 0, 280, {}),
            "sampler": ("KSampler", 700, 200, 280, {"seed": 1, "control_after_generate": "fixed"}),
        },
        [
            ("base", 0, "loader", "model"),
            ("loader", 1, "scenes", "emotion"),
            ("loader", 1, "positive", "emotion"),
            ("scenes", 0, "positive", "embeds"),
            ("scenes", 1, "latent", "batch_size"),
            ("base", 1, "positive", "clip"),
            ("base", 1, "negative", "clip"),
            ("loader", 0, "sampler", "model"),
            ("positive", 0, "sampler", "positive"),
            ("negative", 0, "sampler", "negative"),
            ("latent", 0, "sampler", "latent_image"),
        ],
    ),
    "HiLoRALoader/chain": Scene(
        {
            "one": loader(0, 0),
            "other": loader(350, 0, adapter="paintings.safetensors", emotion="contentment"),
        },
        [("one", 0, "other", "model")],
    ),
    "GaussianEmotionSampler/node": Scene(
        {
            "loader": loader(0, 0, mixture="awe; fear; awe + fear"),
            "scenes": ("GaussianEmotionSampler", 350, 0, 300, {"seed": 7}),
            "latent": ("EmptyLatentImage", 350, 250, 300, {}),
        },
        [("loader", 1, "scenes", "emotion"), ("scenes", 1, "latent", "batch_size")],
    ),
    "GaussianEmotionSampler/own_picture": Scene(
        {
            "vision": ("CLIPVisionLoader", 0, 0, 300, {"clip_name": CLIP}),
            "picture": ("LoadImage", 0, 110, 300, {"image": PICTURE}),
            "seen": ("CLIPVisionEncode", 350, 0, 300, {}),
            "scenes": ("GaussianEmotionSampler", 350, 150, 300, {"batch_size": 4}),
        },
        [
            ("vision", 0, "seen", "clip_vision"),
            ("picture", 0, "seen", "image"),
            ("seen", 0, "scenes", "clip_vision_output"),
        ],
    ),
    "EmotionConditioner/node": Scene(
        {
            "loader": loader(0, 0),
            "scenes": ("GaussianEmotionSampler", 0, 270, 300, {"seed": 7}),
            "positive": conditioner(350, 60, "a street at night, {emotion}"),
        },
        [
            ("loader", 1, "scenes", "emotion"),
            ("loader", 1, "positive", "emotion"),
            ("scenes", 0, "positive", "embeds"),
        ],
    ),
    "EmotionConditioner/areas": Scene(
        {
            "awe": loader(0, 0),
            "fear": loader(0, 270, emotion="fear"),
            "left": conditioner(350, 0, "a valley, {emotion}"),
            "right": conditioner(350, 270, "a forest, {emotion}"),
            "left half": (
                "ConditioningSetArea",
                700,
                0,
                280,
                {"width": 256, "height": 512, "x": 0, "y": 0},
            ),
            "right half": (
                "ConditioningSetArea",
                700,
                270,
                280,
                {"width": 256, "height": 512, "x": 256, "y": 0},
            ),
            "both": ("ConditioningCombine", 1030, 160, 240, {}),
        },
        [
            ("awe", 1, "left", "emotion"),
            ("fear", 1, "right", "emotion"),
            ("left", 0, "left half", "conditioning"),
            ("right", 0, "right half", "conditioning"),
            ("left half", 0, "both", "conditioning_1"),
            ("right half", 0, "both", "conditioning_2"),
        ],
    ),
    "EmotionConditioner/negative": Scene(
        {
            "awe": loader(0, 0),
            "fear": loader(0, 270, emotion="fear"),
            "positive": conditioner(350, 0, "a house, {emotion}"),
            "negative": conditioner(350, 270),
            "sampler": ("KSampler", 700, 100, 280, {"seed": 1, "control_after_generate": "fixed"}),
        },
        [
            ("awe", 1, "positive", "emotion"),
            ("fear", 1, "negative", "emotion"),
            ("awe", 0, "sampler", "model"),
            ("positive", 0, "sampler", "positive"),
            ("negative", 0, "sampler", "negative"),
        ],
    ),
    "EmotionCaptioner/node": Scene(
        {
            "picture": ("LoadImage", 0, 0, 280, {"image": PICTURE}),
            "captioner": ("EmotionCaptioner", 330, 0, 320, {"server_model": "qwen2.5vl"}),
            "text": ("PreviewAny", 700, 0, 260, {}),
        },
        [("picture", 0, "captioner", "image"), ("captioner", 0, "text", "source")],
    ),
    "SaveToEmotionSet/node": Scene(
        {
            "picture": ("LoadImage", 0, 0, 280, {"image": PICTURE}),
            "captioner": ("EmotionCaptioner", 330, 90, 320, {"server_model": "qwen2.5vl"}),
            "save": ("SaveToEmotionSet", 700, 0, 300, {}),
        },
        [
            ("picture", 0, "captioner", "image"),
            ("picture", 0, "save", "images"),
            ("captioner", 0, "save", "caption"),
        ],
    ),
}


def paint_evening(path: Path) -> None:
    """A sky, a sun and a hill, for Load Image to show."""
    row, column = np.mgrid[0:384, 0:384] / 384
    height = row[..., None]
    sky = (1 - height) * np.array([40, 45, 110]) + height * np.array([255, 150, 70])
    sun = np.exp(-80 * ((row - 0.62) ** 2 + (column - 0.6) ** 2))[..., None]
    seen = sky * (1 - sun) + sun * np.array([255, 240, 200])
    hill = row > 0.75 + 0.08 * np.sin(5 * column)
    seen[hill] = [25, 20, 40]
    Image.fromarray(seen.astype(np.uint8)).save(path)


def take(front_end: FrontEnd, scene: Scene) -> Image.Image:
    """A screenshot of the scene, as large as it is, in few colours."""
    nodes = {
        name: {"type": kind, "pos": [x, y], "width": width, "widgets": widgets}
        for name, (kind, x, y, width, widgets) in scene.nodes.items()
    }
    left, top = 120, 160
    front_end.page.evaluate(_DRAW, [nodes, scene.links])
    front_end.page.wait_for_timeout(1000)  # pictures in nodes come later, and the nodes grow
    width, height = front_end.page.evaluate(_PLACE, [left, top, MARGIN])
    front_end.page.wait_for_timeout(500)
    clip = {"x": left, "y": top, "width": round(width), "height": round(height)}
    picture = Image.open(io.BytesIO(front_end.page.screenshot(clip=clip))).convert("RGB")
    return picture.quantize(COLOURS, dither=Image.Dither.NONE)


def take_all(server: ComfyServer, only: str = "") -> None:
    """Write every scene whose name holds `only`, in both languages."""
    with chromium() as browser:
        for language, ending in LANGUAGES.items():
            server.post("/settings/Comfy.Locale", language)
            server.post("/settings/Comfy.NodeBadge.NodeSourceBadgeMode", "None")
            front_end = FrontEnd(browser, server, 1700, 1000)
            for name, scene in SCENES.items():
                if only in name:
                    path = PICTURES / f"{name}{ending}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    take(front_end, scene).save(path, optimize=True)
                    print(path.relative_to(ROOT), path.stat().st_size)
            front_end.page.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("models", "server"):
            Path(folder, name).mkdir()
        models, room = Models(Path(folder, "models")), Path(folder, "server")
        shipped.make_its_models(models)
        models.adapter(name=ADAPTER)
        models.adapter(name="paintings", seed=1)
        with ComfyServer(find_comfyui(), room, models.folder, ROOT) as server:
            paint_evening(server.input / PICTURE)
            take_all(server)


if __name__ == "__main__":
    main()
