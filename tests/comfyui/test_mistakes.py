"""A mistake is one clear sentence in the front end, told before anything is sampled."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .graphs import Graph, emotion_to_image
from .models import Models
from .server import ComfyServer

pytestmark = pytest.mark.comfyui


def assert_told(server: ComfyServer, graph: Graph, *words: str) -> None:
    """The graph fails in one sentence with these words, and no sampler has run."""
    told = server.fault(graph.prompt)
    print(told)
    for word in words:
        assert word in told
    assert "\n" not in told and len(told) < 500
    assert "Traceback" not in told


def test_no_adapter_yet(start_server: Callable[..., ComfyServer]) -> None:
    server = start_server("--cpu", adapters=False)
    options = server.object_info("HiLoRALoader")["input"]["required"]["adapter"]
    assert "none installed" in str(options)
    graph = emotion_to_image(loader={"adapter": "none installed"})
    assert_told(server, graph, "no adapter is installed", "coemogen_train", "coemogen", "press R")


def test_an_adapter_that_is_not_there(comfy_server: ComfyServer) -> None:
    graph = emotion_to_image(loader={"adapter": "mine.safetensors"})
    assert_told(comfy_server, graph, "there is no adapter 'mine.safetensors'", "choose", "small.safetensors")


def test_a_name_that_leads_out_of_the_folder(comfy_server: ComfyServer, models: Models) -> None:
    graph = emotion_to_image(loader={"adapter": "../checkpoints/small.safetensors"})
    assert_told(comfy_server, graph, "there is no adapter")


def test_a_damaged_adapter(comfy_server: ComfyServer, models: Models) -> None:
    graph = emotion_to_image(loader={"adapter": models.damaged_adapter()})
    assert_told(comfy_server, graph, "damaged.safetensors", "checksum", "copy or download it again")


def test_a_lora_in_the_place_of_an_adapter(comfy_server: ComfyServer, models: Models) -> None:
    from safetensors.torch import save_file
    from torch import zeros

    save_file({"lora_unet.weight": zeros(2)}, str(models.path("coemogen", "lora.safetensors")))
    graph = emotion_to_image(loader={"adapter": "lora.safetensors"})
    assert_told(comfy_server, graph, "lora.safetensors", "no CoEmoGen adapter")


def test_an_sdxl_model(comfy_server: ComfyServer, models: Models) -> None:
    graph = Graph()
    other = graph.checkpoint(models.sdxl())
    base = graph.checkpoint()
    chosen = graph.loader(other[0])
    sampled = graph.sample(
        chosen[0], graph.condition(base[1], chosen[1]), graph.text(base[1]), graph.latent()
    )
    graph.picture(sampled, base[2])
    assert_told(comfy_server, graph, "SDXL", "connect a Stable Diffusion 1.5 checkpoint")


def test_an_sdxl_clip(comfy_server: ComfyServer, models: Models) -> None:
    graph = Graph()
    base = graph.checkpoint()
    name = models.clip_text()
    other = graph.add("DualCLIPLoader", clip_name1=name, clip_name2=name, type="sdxl")
    chosen = graph.loader(base[0])
    positive = graph.condition(other, chosen[1])
    graph.picture(graph.sample(chosen[0], positive, graph.text(base[1]), graph.latent()), base[2])
    assert_told(comfy_server, graph, "CLIP", "g, l", "connect the CLIP of a Stable Diffusion 1.5 checkpoint")


def test_an_adapter_of_another_width(comfy_server: ComfyServer, models: Models) -> None:
    graph = emotion_to_image(loader={"adapter": models.adapter_of_another_width()})
    assert_told(comfy_server, graph, "wide.safetensors", "Stable Diffusion 2", "768", "1024")


def test_an_emotion_that_the_adapter_lacks(comfy_server: ComfyServer, models: Models) -> None:
    name = models.adapter_of_another_taxonomy()
    graph = emotion_to_image(loader={"adapter": name, "emotion": "awe"})
    assert_told(comfy_server, graph, name, "there is no emotion 'awe'", "nostalgia", "unease")


def test_a_mixture_with_a_slip(comfy_server: ComfyServer) -> None:
    graph = emotion_to_image(loader={"mixture": "awe 0.7 + feer 0.3"})
    assert_told(comfy_server, graph, "small.safetensors", "'feer'", "fear")


def test_different_emotions_in_merged_mode(comfy_server: ComfyServer) -> None:
    graph = emotion_to_image(loader={"emotion": "all, one per picture", "mode": "merged"})
    assert_told(comfy_server, graph, "merged mode has one emotion", "set the mode to routed")


def test_the_place_of_the_emotion_twice(comfy_server: ComfyServer) -> None:
    graph = emotion_to_image(condition={"prompt": "{emotion} and {emotion}"})
    assert_told(comfy_server, graph, "{emotion} 2 times", "write it once")


def test_scenes_of_another_adapter(comfy_server: ComfyServer, models: Models) -> None:
    """An image encoder of another width: what it drew does not fit."""
    from coemogen_train.adapter.info import VisionInfo

    other = models.adapter(name="vit-h", vision=VisionInfo("ViT-H-14", 1024))
    graph = Graph()
    base = graph.checkpoint()
    chosen = graph.loader(base[0])
    scenes = graph.scenes(graph.loader(base[0], other)[1])
    positive = graph.condition(base[1], chosen[1], embeds=scenes[0])
    graph.picture(graph.sample(chosen[0], positive, graph.text(base[1]), graph.latent()), base[2])
    assert_told(comfy_server, graph, "1024 wide", "768", "Gaussian Emotion Sampler")
