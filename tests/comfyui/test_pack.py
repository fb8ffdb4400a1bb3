"""The pack in a real ComfyUI: it loads under any folder name, explains itself, and makes pictures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .graphs import emotion_to_image, text_to_image
from .pictures import all_different, assert_pictures, difference
from .server import PACK_NAME, ComfyServer

pytestmark = pytest.mark.comfyui

NODES = {
    "HiLoRALoader",
    "GaussianEmotionSampler",
    "EmotionConditioner",
    "EmotionCaptioner",
    "SaveToEmotionSet",
}


@pytest.fixture(scope="module")
def ours(comfy_server: ComfyServer) -> dict:
    """What the front end knows of our nodes."""
    module = f"custom_nodes.{PACK_NAME}"
    return {
        name: told for name, told in comfy_server.object_info().items() if told["python_module"] == module
    }


def test_every_node_is_listed(ours: dict) -> None:
    assert set(ours) == NODES


def test_the_pack_loads_without_a_word_of_complaint(comfy_server: ComfyServer) -> None:
    # What is logged later belongs to the prompts that other tests run, which may be meant to fail.
    starting, up, _ = comfy_server.log().partition("To see the GUI go to")
    assert up
    assert "IMPORT FAILED" not in starting
    assert "Traceback" not in starting


def test_loading_the_pack_takes_no_more_than_a_moment(comfy_server: ComfyServer) -> None:
    """Beside the probes, which import what ComfyUI has loaded already: as good as an empty pack."""
    seconds = {
        Path(path).name: float(took)
        for took, path in re.findall(r"([\d.]+) seconds: (.+)", comfy_server.log())
    }
    print(f"import: {seconds[PACK_NAME]} s, an empty pack's: {seconds['probe_nodes.py']} s")
    assert seconds[PACK_NAME] < seconds["probe_nodes.py"] + 1


def test_every_node_input_and_output_explains_itself(ours: dict) -> None:
    silent = []
    for name, told in ours.items():
        if not told["display_name"] or told["display_name"] == name or len(told["description"]) < 40:
            silent.append(name)
        for group in ("required", "optional"):
            inputs = told["input"].get(group, {}).items()
            silent += [f"{name}.{key}" for key, options in inputs if not options[1].get("tooltip")]
        outputs = zip(told["output_name"], told["output_tooltips"], strict=True)
        silent += [f"{name} -> {output}" for output, tooltip in outputs if not tooltip]
    assert not silent


def test_the_checkpoint_itself_draws_what_the_prompt_says(comfy_server: ComfyServer) -> None:
    street, dog = (
        assert_pictures(comfy_server.run(text_to_image(prompt).prompt), 1)[0]
        for prompt in ("a street", "a dog in the rain")
    )
    assert difference(street, dog) > 1


def test_an_emotion_becomes_a_picture(comfy_server: ComfyServer) -> None:
    assert_pictures(comfy_server.run(emotion_to_image().prompt), 1)


@pytest.mark.parametrize("mode", ["routed", "merged"])
def test_emotions_give_different_pictures(comfy_server: ComfyServer, mode: str) -> None:
    pictures = [
        assert_pictures(comfy_server.run(emotion_to_image({"emotion": name, "mode": mode}).prompt), 1)[0]
        for name in ("awe", "fear", "sadness")
    ]
    assert all_different(pictures)


def test_all_emotions_fit_in_one_batch(comfy_server: ComfyServer) -> None:
    result = comfy_server.run(emotion_to_image({"mixture": "all"}).prompt)
    assert all_different(assert_pictures(result, 8))
