"""The shipped workflows as files: readable at a glance, honest about what they need, the same every time."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from . import shipped

TITLE = 30  # the height of a node's title, which lies above its place
CORE = {
    "CLIPLoader",
    "CLIPTextEncode",
    "CLIPVisionEncode",
    "CLIPVisionLoader",
    "CheckpointLoaderSimple",
    "EmptyLatentImage",
    "KSampler",
    "LoadImage",
    "MarkdownNote",
    "PreviewAny",
    "SaveImage",
    "VAEDecode",
}
OURS = {
    "EmotionCaptioner",
    "EmotionConditioner",
    "GaussianEmotionSampler",
    "HiLoRALoader",
    "SaveToEmotionSet",
}


def box(node: dict[str, Any]) -> tuple[float, float, float, float]:
    """Left, top, right, bottom, with the title."""
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE, x + width, y + height


def test_there_are_six() -> None:
    assert shipped.NAMES == [
        "caption_and_score",
        "eight_emotions_one_batch",
        "emotion_on_a_content_prompt",
        "emotion_to_image",
        "from_a_reference_image",
        "mixture",
    ]


@pytest.mark.parametrize("name", shipped.NAMES)
def test_nothing_lies_on_anything_else_and_all_lies_in_a_titled_group(name: str) -> None:
    workflow = shipped.read(name)
    boxes = [(node["type"], *box(node)) for node in workflow["nodes"]]
    for i, (one, left, top, right, bottom) in enumerate(boxes):
        for other, left2, top2, right2, bottom2 in boxes[:i]:
            apart = right <= left2 or right2 <= left or bottom <= top2 or bottom2 <= top
            assert apart, f"{one} lies on {other}"
    frames = [group["bounding"] for group in workflow["groups"] if group["title"]]
    for kind, left, top, right, bottom in boxes:
        inside = (
            x <= left and y <= top and right <= x + width and bottom <= y + height
            for x, y, width, height in frames
        )
        assert kind == "MarkdownNote" or any(inside), f"{kind} lies in no group"


@pytest.mark.parametrize("name", shipped.NAMES)
def test_seeds_stay_as_they_are(name: str) -> None:
    for node in shipped.read(name)["nodes"]:
        controls = [value for value in node.get("widgets_values", []) if value in shipped.CONTROLS]
        seeds = [entry for entry in node["inputs"] if "seed" in entry["name"]]
        assert controls == ["fixed"] * len(seeds)


@pytest.mark.parametrize("name", shipped.NAMES)
def test_only_nodes_of_ours_and_of_every_comfyui(name: str) -> None:
    assert {node["type"] for node in shipped.read(name)["nodes"]} <= CORE | OURS


@pytest.mark.parametrize("name", shipped.NAMES)
def test_a_note_says_what_to_try_and_how_to_get_what_is_needed(name: str) -> None:
    workflow = shipped.read(name)
    notes = "\n".join(
        node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "MarkdownNote"
    )
    assert "try" in notes
    if any(node["type"] == "HiLoRALoader" for node in workflow["nodes"]):
        for needed in ("coemogen_train train", "models/coemogen", "**R**"):
            assert needed in notes


@pytest.mark.parametrize("name", shipped.NAMES)
def test_a_thumbnail_lies_beside_it(name: str) -> None:
    data = (shipped.WORKFLOWS / f"{name}.jpg").read_bytes()
    assert len(data) < 60_000
    assert Image.open(io.BytesIO(data)).width == 640
