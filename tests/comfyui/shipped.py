"""The shipped workflows, as files and at sizes that tests can afford."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .models import Models
from .server import ComfyServer

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
BLUEPRINTS = Path(__file__).resolve().parents[2] / "subgraphs"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
CONTROLS = ("fixed", "increment", "decrement", "randomize")
PICTURE = "example.png"  # the one that ComfyUI brings along


def read(name: str) -> dict[str, Any]:
    """A shipped workflow, as the front end saved it."""
    return json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))


def widgets(node: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """The place of each widget in the node's `widgets_values`, and its name.

    Values are saved by position; the widget behind a seed, which says how it changes, has no input.
    """
    place, values = 0, node.get("widgets_values", [])
    for name in (entry["widget"]["name"] for entry in node["inputs"] if "widget" in entry):
        yield place, name
        follows = values[place + 1] if place + 1 < len(values) else None
        place += 2 if "seed" in name and follows in CONTROLS else 1


def changed(workflow: dict[str, Any], **values: Any) -> dict[str, Any]:
    """A copy of the workflow in which all widgets of these names have these values."""
    workflow = copy.deepcopy(workflow)
    for node in all_nodes(workflow):
        for place, name in widgets(node):
            if name in values:
                node["widgets_values"][place] = values[name]
    return workflow


def all_nodes(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """The nodes of a workflow and of the subgraphs in it."""
    inner = workflow.get("definitions", {}).get("subgraphs", [])
    return [*workflow["nodes"], *(node for graph in inner for node in graph["nodes"])]


def small(workflow: dict[str, Any], **values: Any) -> dict[str, Any]:
    """The workflow at 64 x 64 in two steps, with the adapter that is there."""
    least = {"width": 64, "height": 64, "steps": 2, "adapter": "small.safetensors"}
    return changed(workflow, **least | values)


def runs(workflow: dict[str, Any]) -> dict[str, str]:
    """The nodes that run, those that are no notes and not switched off: id -> type."""
    nodes = (node for node in workflow["nodes"] if "Note" not in node["type"] and node["mode"] == 0)
    return {str(node["id"]): node["type"] for node in nodes}


def make_its_models(models: Models) -> None:
    """Put random models where the shipped workflows expect real ones."""
    for kind, made, wanted in (
        ("checkpoints", models.checkpoint(), "v1-5-pruned-emaonly-fp16"),
        ("clip_vision", models.clip_vision(), "clip-vit-large-patch14"),
        ("text_encoders", models.clip_text(), "clip-vit-large-patch14"),
    ):
        path = models.path(kind, f"{wanted}.safetensors")
        if not path.exists():
            path.hardlink_to(models.path(kind, made))


def make_its_picture(server: ComfyServer, name: str = PICTURE, seed: int = 0) -> None:
    """Put a picture where the workflows expect the one that ComfyUI brings along."""
    noise = np.random.default_rng(seed).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(server.input / name)
