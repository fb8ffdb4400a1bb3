"""What the nodes promise to the bit: nothing at strength 0, nothing left behind, sums where loaders meet."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from coemogen_train.adapter.file import load_adapter

from .graphs import Graph, emotion_to_image
from .models import Models
from .pictures import difference
from .server import ComfyServer

pytestmark = pytest.mark.comfyui


@pytest.fixture(scope="module")
def server(start_server: Callable[..., ComfyServer]) -> ComfyServer:
    """In single precision, as the parity tests: what is added up in another order stays close."""
    return start_server("--cpu", "--force-fp32", "--fp32-text-enc")


def apart(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def latents(server: ComfyServer, draw: Callable[[Graph, Any], tuple[Any, Any]], name: str) -> Tensor:
    """Final latents of the graph whose (model, positive) `draw` gives."""
    graph = Graph()
    base = graph.checkpoint()
    model, positive = draw(graph, base)
    sampled = graph.sample(model, positive, graph.text(base[1]), graph.latent())
    graph.add("ProbeSave", value=sampled, name=name)
    server.run(graph.prompt)
    return server.probed(name)[0]["samples"]


@pytest.mark.parametrize("mode", ["routed", "merged"])
def test_strength_0_is_no_node(server: ComfyServer, mode: str) -> None:
    bare = latents(server, lambda graph, base: (base[0], graph.text(base[1], "a street")), "bare")

    def with_loader(graph: Graph, base: Any) -> tuple[Any, Any]:
        off = graph.loader(base[0], emotion_strength=0.0, polarity_strength=0.0, mode=mode)
        return off[0], graph.text(base[1], "a street")

    assert torch.equal(latents(server, with_loader, "off"), bare)


def test_an_emotion_at_strength_0_is_its_words_alone(server: ComfyServer) -> None:
    """Its own gates are 0 on a model that another loader routed: as if HiLoRA were not there."""

    def routed(graph: Graph, base: Any) -> tuple[Any, Any]:
        on = graph.loader(base[0], emotion="fear", negative_strength=0.0)
        off = graph.loader(base[0], emotion_strength=0.0, polarity_strength=0.0)
        return on[0], graph.condition(base[1], off[1])

    def bare(graph: Graph, base: Any) -> tuple[Any, Any]:
        off = graph.loader(base[0], emotion_strength=0.0, polarity_strength=0.0)
        return base[0], graph.condition(base[1], off[1])

    assert torch.equal(latents(server, routed, "gates 0"), latents(server, bare, "no gates"))


@pytest.mark.parametrize(
    ("prompt", "plain"),
    [
        ("a street, {emotion}", "a street"),
        ("{emotion}", ""),
        ("(rain:1.2), {emotion}", "(rain:1.2)"),
        ("a,, b,", "a,, b,"),
    ],
)
def test_intensity_0_is_the_plain_prompt(server: ComfyServer, prompt: str, plain: str) -> None:
    graph = Graph()
    base = graph.checkpoint()
    chosen = graph.loader(base[0])
    none = graph.condition(base[1], chosen[1], prompt=prompt, intensity=0.0)
    graph.add("ProbeSave", value=none, name="none")
    graph.add("ProbeSave", value=graph.text(base[1], plain), name="plain")
    server.run(graph.prompt)
    found, wanted = (server.probed(name)[0] for name in ("none", "plain"))
    for part in ("0.cond", "0.pooled_output"):
        assert torch.equal(found[part], wanted[part])


def test_intensity_is_a_straight_line(server: ComfyServer) -> None:
    """Also where the emotion makes the prompt longer than one chunk of 75 words."""
    for name, prompt in (("short", "a street, {emotion}"), ("long", "word " * 73 + "{emotion}")):
        graph = Graph()
        base = graph.checkpoint()
        chosen = graph.loader(base[0])
        for intensity in (0.5, 1.0, 2.0):
            graph.add(
                "ProbeSave",
                value=graph.condition(base[1], chosen[1], prompt=prompt, intensity=intensity),
                name=f"{name} {intensity}",
            )
        server.run(graph.prompt)
        half, whole, double = (server.probed(f"{name} {value}")[0]["0.cond"] for value in (0.5, 1.0, 2.0))
        assert half.shape[1] == (77 if name == "short" else 154)
        plain = 2 * half - whole
        assert apart(double, 2 * whole - plain) < 1e-5
        assert apart(whole, plain) > 0.01


@pytest.mark.parametrize("mode", ["routed", "merged"])
def test_the_base_is_as_it_was(server: ComfyServer, mode: str) -> None:
    graph = Graph()
    graph.add("ProbeModel", model=graph.checkpoint()[0], name="before")
    server.run(graph.prompt)
    graph = emotion_to_image(loader={"mode": mode})
    sampler = next(key for key, node in graph.prompt.items() if node["class_type"] == "KSampler")
    base = next(key for key, node in graph.prompt.items() if node["class_type"] == "CheckpointLoaderSimple")
    graph.add("ProbeModel", model=[base, 0], name="after", after=[sampler, 0])
    server.run(graph.prompt)
    before, after = (server.probed(name)[1] for name in ("before", "after"))
    assert before == after
    assert not any(key.endswith(("hooks", "changed_forwards")) or "hooks." in key for key in after)


def chained(first: dict[str, Any], second: dict[str, Any]) -> Callable[[Graph, Any], tuple[Any, Any]]:
    def draw(graph: Graph, base: Any) -> tuple[Any, Any]:
        one = graph.loader(base[0], **{"negative_strength": 1.0} | first)
        other = graph.loader(one[0], **{"negative_strength": 1.0} | second)
        return other[0], graph.text(base[1], "a street")

    return draw


def test_two_loaders_of_one_adapter_add_up(server: ComfyServer) -> None:
    awe, fear = {"emotion": "awe"}, {"emotion": "fear", "emotion_strength": 0.5, "polarity_strength": 0.5}

    def one_loader(graph: Graph, base: Any) -> tuple[Any, Any]:
        both = graph.loader(base[0], mixture="awe 1.0 + fear 0.5", negative_strength=1.0)
        return both[0], graph.text(base[1], "a street")

    wanted = latents(server, one_loader, "one loader")
    for modes in (("routed", "routed"), ("merged", "merged"), ("merged", "routed"), ("routed", "merged")):
        draw = chained(awe | {"mode": modes[0]}, fear | {"mode": modes[1]})
        assert apart(latents(server, draw, "-".join(modes)), wanted) < 1e-4


def test_loaders_of_two_adapters_add_up(server: ComfyServer, models: Models) -> None:
    other = models.adapter_of_another_taxonomy()
    second = {"adapter": other, "emotion": "unease"}
    wanted = latents(server, chained({"mode": "merged"}, second | {"mode": "merged"}), "merged twice")
    assert apart(latents(server, chained({}, second), "routed twice"), wanted) < 1e-4
    alone = latents(server, chained({"mode": "merged"}, second | {"mode": "merged"} | OFF), "first alone")
    assert apart(alone, wanted) > 0.01


OFF = {"emotion_strength": 0.0, "polarity_strength": 0.0}


def test_a_stock_lora_before_and_after(server: ComfyServer, models: Models) -> None:
    """Sums do not ask for order; the stock LoRA alone is something else."""
    lora = models.folder / "loras" / "stock.safetensors"
    if not lora.exists():
        lora.parent.mkdir(exist_ok=True)
        generator = torch.Generator().manual_seed(4)
        name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_v"
        tensors = {
            f"{name}.lora_down.weight": torch.randn(4, 320, generator=generator) / 18,
            f"{name}.lora_up.weight": torch.randn(320, 4, generator=generator),
            f"{name}.alpha": torch.tensor(4.0),
        }
        save_file(tensors, str(lora))
    found = {}
    for mode in ("routed", "merged"):
        for order in ("before", "after", "without"):

            def draw(graph: Graph, base: Any, mode: str = mode, order: str = order) -> tuple[Any, Any]:
                model = base[0]
                steps = {"before": ("lora", "ours"), "after": ("ours", "lora"), "without": ("ours",)}[order]
                for step in steps:
                    if step == "lora":
                        model = graph.add(
                            "LoraLoaderModelOnly", model=model, lora_name=lora.name, strength_model=1.0
                        )[0]
                    else:
                        model = graph.loader(model, mode=mode, negative_strength=1.0)[0]
                return model, graph.text(base[1], "a street")

            found[mode, order] = latents(server, draw, f"{mode} {order}")
    for mode in ("routed", "merged"):
        assert apart(found[mode, "before"], found[mode, "after"]) < 1e-4
        assert apart(found[mode, "before"], found[mode, "without"]) > 1e-3
    assert apart(found["routed", "after"], found["merged", "after"]) < 1e-4


def test_scenes_do_not_depend_on_the_batch(server: ComfyServer, models: Models) -> None:
    graph = Graph()
    base = graph.checkpoint()
    emotion = graph.loader(base[0], mixture="awe; fear 0.5 + awe 0.5")[1]
    graph.add("ProbeSave", value=graph.scenes(emotion, seed=7, batch_size=5)[0], name="five")
    graph.add("ProbeSave", value=graph.scenes(emotion, seed=9, batch_size=3)[0], name="last three")
    graph.add("ProbeSave", value=graph.scenes(emotion, seed=7)[1], name="count")
    server.run(graph.prompt)
    five, three = (server.probed(name)[0]["value"] for name in ("five", "last three"))
    assert torch.equal(five[2:], three)
    assert server.probed("count")[1] == {"value": 2}
    gaussians = load_adapter(models.path("coemogen", models.adapter())).gaussians
    rows = torch.zeros(5, 8)
    rows[0::2, 1], rows[1::2, 1], rows[1::2, 6] = 1.0, 0.5, 0.5
    assert torch.equal(five, gaussians.sample(rows, 7))


def test_the_largest_seed_is_taken(server: ComfyServer) -> None:
    graph = Graph()
    emotion = graph.loader(graph.checkpoint()[0])[1]
    graph.add("ProbeSave", value=graph.scenes(emotion, seed=2**64 - 1, batch_size=2)[0], name="last seed")
    server.run(graph.prompt)
    assert server.probed("last seed")[0]["value"].isfinite().all()


def test_a_picture_of_ones_own_is_taken_as_it_is(server: ComfyServer, models: Models) -> None:
    graph = Graph()
    vision = graph.add("CLIPVisionLoader", clip_name=models.clip_vision())
    picture = graph.add("EmptyImage", width=64, height=64, batch_size=1, color=0x5588CC)
    seen = graph.add("CLIPVisionEncode", clip_vision=vision, image=picture, crop="center")
    emotion = graph.loader(graph.checkpoint()[0])[1]
    embeds = graph.scenes(emotion, clip_vision_output=seen, batch_size=3)
    graph.add("ProbeSave", value=embeds[0], name="from a picture")
    graph.add("ProbeSave", value=seen, name="seen")
    server.run(graph.prompt)
    found, wanted = server.probed("from a picture")[0]["value"], server.probed("seen")[0]["image_embeds"]
    assert found.shape == (3, 768)
    assert torch.equal(found, wanted.float().expand(3, -1))


def test_a_file_replaced_under_its_name_takes_effect(server: ComfyServer, models: Models) -> None:
    path = models.path("coemogen", models.adapter(name="changing", seed=1))
    graph = emotion_to_image(loader={"adapter": path.name})
    first = server.run(graph.prompt).pictures[0]
    loader = next(key for key, node in graph.prompt.items() if node["class_type"] == "HiLoRALoader")
    assert loader in server.run(graph.prompt).cached
    stat = path.stat()
    shutil.copyfile(models.path("coemogen", models.adapter(name="changed", seed=2)), path)
    assert path.stat().st_size == stat.st_size
    second = server.run(graph.prompt)
    assert loader not in second.cached
    assert difference(second.pictures[0], first) > 1
