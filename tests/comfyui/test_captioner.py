"""The captioner in a real ComfyUI: a local model, a server, their failures, Cancel, and the score."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ..captions.openai_server import SENTENCE, Script, fails, says, serving
from ..captions.tiny_vlm import ENDLESS, make_llava
from ..captions.tiny_vlm import SENTENCE as SPOKEN
from .events import Events
from .graphs import Graph, Node
from .models import Models
from .server import ComfyServer

pytestmark = pytest.mark.comfyui

SAID = SPOKEN.replace(" .", ".")


@pytest.fixture(scope="module")
def tiny(models: Models) -> str:
    make_llava(models.folder / "coemogen_captioners" / "tiny")
    return "tiny"


@pytest.fixture(scope="module")
def endless(models: Models) -> str:
    """In a folder of its maker's, as people sort them."""
    make_llava(models.folder / "coemogen_captioners" / "maker" / "endless", ENDLESS, ends=False)
    return "maker/endless"


@pytest.fixture
def script() -> Iterator[Script]:
    with serving(says()) as found:
        yield found


def pictures(graph: Graph, server: ComfyServer, count: int = 1) -> Node:
    """A batch of different pictures of 224 x 224, loaded, so that no sampler has to run."""
    batch: Node | None = None
    for number in range(count):
        values = np.random.default_rng(number).integers(0, 255, (224, 224, 3), dtype=np.uint8)
        Image.fromarray(values).save(server.input / f"{number}.png")
        one = graph.add("LoadImage", image=f"{number}.png")
        batch = one if batch is None else graph.add("ImageBatch", image1=batch, image2=one)
    assert batch is not None
    return batch


def captioner(graph: Graph, image: Any, captioner: str = "server", **choices: Any) -> Node:
    """0 STRING list, 1 FLOAT list."""
    defaults = {
        "emotion": "awe",
        "server_url": "http://127.0.0.1:9/v1",
        "server_model": "tiny-vision",
        "max_tokens": 64,
        "server_timeout": 20,
        "seed": 0,
    }
    return graph.add("EmotionCaptioner", image=image, captioner=captioner, **defaults | choices)


def probed(server: ComfyServer, graph: Graph, wire: Any, name: str) -> list[Any]:
    """Run the graph and give the values that a wire carried."""
    graph.add("ProbeSave", value=wire, name=name)
    server.run(graph.prompt)
    _, plain = server.probed(name)
    return [plain[key] for key in sorted(plain)]


def sampled(graph: Graph) -> Node:
    """A picture that has to be sampled first."""
    base = graph.checkpoint()
    drawn = graph.sample(base[0], graph.text(base[1], "a street"), graph.text(base[1]), graph.latent())
    return graph.add("VAEDecode", samples=drawn, vae=base[2])


def told_before_sampling(server: ComfyServer, graph: Graph, image: Node, **choices: Any) -> str:
    """The one sentence that the front end shows; the sampler has not run."""
    graph.add("ProbeSave", value=captioner(graph, image, **choices), name="never")
    answer = server.submit(graph.prompt)
    if answer.node_errors:
        (told,) = answer.messages
    else:
        result = server.wait(answer.id)
        (failed,) = (data for kind, data in result.messages if kind == "execution_error")
        ran = {graph.prompt[node]["class_type"] for node in failed["executed"]}
        assert failed["node_type"] == "EmotionCaptioner" and "KSampler" not in ran
        told = result.error
    print(told)
    assert "\n" not in told and len(told) < 600
    return told


def test_a_model_folder_captions_a_batch(comfy_server: ComfyServer, tiny: str) -> None:
    graph = Graph()
    images = pictures(graph, comfy_server, 3)
    assert probed(comfy_server, graph, captioner(graph, images, tiny), "local") == [SAID] * 3


def test_the_menu_offers_the_server_and_the_folders(
    comfy_server: ComfyServer, tiny: str, endless: str
) -> None:
    shown = comfy_server.object_info("EmotionCaptioner")["input"]["required"]["captioner"]
    options = shown[0] if isinstance(shown[0], list) else shown[1]["options"]
    assert options[0] == "server" and {tiny, endless} <= set(options)


def test_a_server_captions_a_batch_with_an_emotion_each(comfy_server: ComfyServer, script: Script) -> None:
    script.answers[:] = [says(f"Dog number {name} leaps through leaves.") for name in ("one", "two", "three")]
    graph = Graph()
    images = pictures(graph, comfy_server, 3)
    node = captioner(graph, images, server_url=script.url, emotion="awe; fear", server_model="", seed=7)
    captions = probed(comfy_server, graph, node, "server")
    assert captions == [f"Dog number {name} leaps through leaves." for name in ("one", "two", "three")]
    asked = [request.body for request in script.requests if request.body]
    prompts = [body["messages"][0]["content"][1]["text"] for body in asked]
    assert ["awe" in prompt for prompt in prompts] == [True, False, True]
    assert ["fear" in prompt for prompt in prompts] == [False, True, False]
    assert {(body["model"], body["max_tokens"], body["seed"]) for body in asked} == {("tiny-vision", 64, 7)}


def test_the_emotion_comes_over_the_wire(comfy_server: ComfyServer, script: Script) -> None:
    graph = Graph()
    images = pictures(graph, comfy_server, 2)
    chosen = graph.loader(graph.checkpoint()[0], mixture="awe 0.3 + fear 0.7; sadness")
    node = captioner(graph, images, server_url=script.url, emotion=chosen[1])
    assert probed(comfy_server, graph, node, "wired") == [SENTENCE] * 2
    prompts = [r.body["messages"][0]["content"][1]["text"] for r in script.requests if r.body]
    assert "feel fear and awe." in prompts[0] and "feel sadness." in prompts[1]


def test_what_is_cached_is_not_asked_for_again(comfy_server: ComfyServer, script: Script) -> None:
    graph = Graph()
    images = pictures(graph, comfy_server)
    graph.add("ProbeSave", value=captioner(graph, images, server_url=script.url), name="cached")
    comfy_server.run(graph.prompt)
    asked = len(script.requests)
    comfy_server.run(graph.prompt)
    assert len(script.requests) == asked > 0


def test_a_refusal_leaves_its_picture_without_and_keeps_the_others(
    comfy_server: ComfyServer, script: Script
) -> None:
    refusals = [says("I'm sorry, I can't help with that.")] * 3
    script.answers[:] = [says(), *refusals, says()]
    graph = Graph()
    images = pictures(graph, comfy_server, 3)
    node = captioner(graph, images, server_url=script.url, emotion="contentment")
    assert probed(comfy_server, graph, node, "refused") == [SENTENCE, "", SENTENCE]
    assert "the caption of picture 2 is left empty: it is a refusal" in comfy_server.log()


def test_only_refusals_are_an_error(comfy_server: ComfyServer, script: Script) -> None:
    script.answers[:] = [says("I'm sorry, I can't help with that.")]
    graph = Graph()
    images = pictures(graph, comfy_server)
    node = captioner(graph, images, server_url=script.url, emotion="disgust")
    graph.add("ProbeSave", value=node, name="never")
    assert comfy_server.fault(graph.prompt) == (
        "the model 'tiny-vision' gave no caption: its answer cannot be used, it is a refusal (3 attempts); "
        "choose another model, one that can see pictures."
    )


def test_a_captioner_that_is_not_there(comfy_server: ComfyServer) -> None:
    graph = Graph()
    told = told_before_sampling(comfy_server, graph, sampled(graph), captioner="llava-of-mine")
    assert "there is no captioning model 'llava-of-mine' in" in told
    assert "coemogen_captioners" in told and "press R" in told


def test_a_captioner_without_safe_weights(comfy_server: ComfyServer, models: Models) -> None:
    folder = make_llava(models.folder / "coemogen_captioners" / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    graph = Graph()
    told = told_before_sampling(comfy_server, graph, sampled(graph), captioner="pickled")
    assert "has no .safetensors weights" in told


def test_a_captioner_that_wants_to_run_code(comfy_server: ComfyServer, models: Models) -> None:
    folder = make_llava(models.folder / "coemogen_captioners" / "coded")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "odd", "auto_map": {"AutoConfig": "odd.Config"}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    graph = Graph()
    told = told_before_sampling(comfy_server, graph, sampled(graph), captioner="coded")
    assert "wants to run code of its own, which is never done" in told


def test_a_server_that_is_down(comfy_server: ComfyServer) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    graph = Graph()
    told = told_before_sampling(comfy_server, graph, sampled(graph), server_url=url)
    assert told.startswith(f"no caption server answers at {url}: start one there")


def test_a_server_that_wants_a_key(comfy_server: ComfyServer) -> None:
    with serving(says(), models=fails(401)) as script:
        graph = Graph()
        told = told_before_sampling(comfy_server, graph, sampled(graph), server_url=script.url)
    assert "wants a key (401): set the environment variable COEMOGEN_CAPTION_KEY" in told


def test_an_address_that_is_none(comfy_server: ComfyServer) -> None:
    graph = Graph()
    told = told_before_sampling(comfy_server, graph, sampled(graph), server_url="127.0.0.1:11434")
    assert "is no http or https address of a caption server" in told


def test_an_emotion_that_is_none(comfy_server: ComfyServer, script: Script) -> None:
    graph = Graph()
    told = told_before_sampling(comfy_server, graph, sampled(graph), server_url=script.url, emotion=" ; ")
    assert "the emotion field is empty: name the emotion" in told


def interrupted_after(
    server: ComfyServer,
    listen: Callable[[ComfyServer], Events],
    graph: Graph,
    ready: Callable[[Events], object],
) -> float:
    """Seconds from Cancel to its effect."""
    with listen(server) as events:
        answer = events.submit(graph.prompt)
        assert not answer.node_errors, answer.messages
        ready(events)
        begin = time.perf_counter()
        server.interrupt()
        events.wait_for("execution_interrupted", 30)
        seconds = time.perf_counter() - begin
    assert server.wait(answer.id).error == "interrupted"
    return seconds


def test_cancel_in_the_middle_of_a_caption_by_a_model(
    comfy_server: ComfyServer, endless: str, listen: Callable[[ComfyServer], Events]
) -> None:
    graph = Graph()
    node = captioner(graph, pictures(graph, comfy_server), endless, max_tokens=4096)
    graph.add("ProbeSave", value=node, name="never")

    def at_the_twentieth_token(events: Events) -> None:
        while events.wait_for("progress")["value"] < 20:
            pass

    seconds = interrupted_after(comfy_server, listen, graph, at_the_twentieth_token)
    print(f"cancelled in {seconds:.3f} s")
    assert seconds < 1
    # and the model still works afterwards
    again = Graph()
    node = captioner(again, pictures(again, comfy_server), endless, max_tokens=16)
    again.add("ProbeSave", value=node, name="after")
    comfy_server.run(again.prompt)


def test_cancel_in_the_middle_of_a_caption_by_a_server(
    comfy_server: ComfyServer, listen: Callable[[ComfyServer], Events]
) -> None:
    with serving(lambda handler: time.sleep(15)) as script:
        graph = Graph()
        node = captioner(graph, pictures(graph, comfy_server), server_url=script.url, emotion="anger")
        graph.add("ProbeSave", value=node, name="never")

        def when_it_is_asked(_events: Events) -> None:
            while not any(request.body for request in script.requests):
                time.sleep(0.01)

        seconds = interrupted_after(comfy_server, listen, graph, when_it_is_asked)
    print(f"cancelled in {seconds:.3f} s")
    assert seconds < 1


def readings(server: ComfyServer, name: str) -> int:
    return server.log().count(f"CoEmoGen: reading the captioning model {name}")


def test_a_model_is_read_once_and_again_when_its_folder_changes_or_memory_is_freed(
    comfy_server: ComfyServer, models: Models
) -> None:
    folder = make_llava(models.folder / "coemogen_captioners" / "kept")

    def caption(seed: int) -> list[Any]:
        graph = Graph()
        node = captioner(graph, pictures(graph, comfy_server), "kept", seed=seed)
        return probed(comfy_server, graph, node, "kept")

    assert caption(0) == caption(0) == [SAID]
    caption(1)
    caption(2)
    assert readings(comfy_server, "kept") == 1
    make_llava(folder, "Grey rain falls on an empty bench .")
    assert caption(2) == ["Grey rain falls on an empty bench."]
    assert readings(comfy_server, "kept") == 2
    comfy_server.post("/free", {"unload_models": True, "free_memory": False})
    assert caption(3) == ["Grey rain falls on an empty bench."]
    assert readings(comfy_server, "kept") == 2  # moved away and back, not read anew
    comfy_server.free()
    assert caption(2) == ["Grey rain falls on an empty bench."]
    assert readings(comfy_server, "kept") == 3


def scored(graph: Graph, server: ComfyServer, models: Models, script: Script, count: int) -> Node:
    clip = graph.add("CLIPLoader", clip_name=models.clip_text(), type="stable_diffusion")
    vision = graph.add("CLIPVisionLoader", clip_name=models.clip_vision())
    images = pictures(graph, server, count)
    return captioner(graph, images, server_url=script.url, clip=clip, clip_vision=vision, emotion="awe")


def test_the_similarity_is_clips_own(
    start_server: Callable[..., ComfyServer], models: Models, script: Script
) -> None:
    script.answers[:] = [
        says("A brown (old) dog runs, a: b; c."),
        says(),
        says(
            "A dog runs past " + "picturesque windmills, " * 2 + "tulips, barns, lighthouses, " * 20 + "on."
        ),
    ]
    server = start_server("--cpu", "--force-fp32", "--fp32-text-enc")
    graph = Graph()
    node = scored(graph, server, models, script, 3)
    graph.add("ProbeSave", value=node[0], name="scored captions")
    found = probed(server, graph, node[1], "scores")
    _, plain = server.probed("scored captions")
    captions = [plain[key] for key in sorted(plain)]
    assert len(captions[2].split()) > 60  # and as many commas, which are tokens too
    expected = similarities(models, captions, server.input)
    print(found, expected)
    assert np.allclose(found, expected, atol=1e-4)


def similarities(models: Models, captions: list[str], folder: Path) -> list[float]:
    """The same by transformers' CLIPModel and open_clip's tokenizer, from the same files."""
    import open_clip
    import torch
    from safetensors.torch import load_file
    from transformers import CLIPConfig, CLIPModel

    heads = {
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "hidden_size": 1024,
        "intermediate_size": 4096,
    }
    text = {"projection_dim": 768, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
    model = CLIPModel(
        CLIPConfig(
            text_config={**text, "num_attention_heads": 12, "eos_token_id": 49407},
            vision_config={**heads, "patch_size": 14, "projection_dim": 768},
            projection_dim=768,
        )
    )
    tensors = load_file(models.path("text_encoders", models.clip_text()))
    tensors |= load_file(models.path("clip_vision", models.clip_vision()))
    missing = model.load_state_dict({key: value.float() for key, value in tensors.items()}, strict=False)
    assert set(missing.missing_keys) <= {"logit_scale"}, missing.missing_keys[:3]
    ids = open_clip.get_tokenizer("ViT-L-14")(captions)
    ids[ids == 0] = 49407  # open_clip pads with zeros, which the causal mask hides
    mean, std = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
    values = np.stack([np.asarray(Image.open(folder / f"{n}.png")) for n in range(len(captions))]) / 255.0
    pixels = torch.tensor((values - mean) / std).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        out = model.eval()(input_ids=ids, pixel_values=pixels)
        return (out.logits_per_image.diagonal() / model.logit_scale.exp()).tolist()


@pytest.mark.parametrize("skip", [False, True])
def test_a_checkpoints_clip_cannot_score(
    comfy_server: ComfyServer, models: Models, script: Script, skip: bool
) -> None:
    graph = Graph()
    vision = graph.add("CLIPVisionLoader", clip_name=models.clip_vision())
    image = sampled(graph)
    clip = graph.checkpoint()[1]
    if skip:
        clip = graph.add("CLIPSetLastLayer", clip=clip, stop_at_clip_layer=-2)
    choices = {"clip": clip, "clip_vision": vision}
    told = told_before_sampling(comfy_server, graph, image, server_url=script.url, **choices)
    assert "is a checkpoint's and has no text projection, so it cannot score: connect" in told


def test_without_clip_models_there_is_a_caption_and_no_score(
    comfy_server: ComfyServer, script: Script, listen: Callable[[ComfyServer], Events]
) -> None:
    graph = Graph()
    node = captioner(graph, pictures(graph, comfy_server), server_url=script.url, emotion="excitement")
    graph.add("ProbeSave", value=node[0], name="caption alone")
    graph.add("ProbeSave", value=node[1], name="no score")
    with listen(comfy_server) as events:
        answer = events.submit(graph.prompt)
        told = events.wait_for("execution_error")["exception_message"]
        comfy_server.wait(answer.id)
    assert "the similarity needs both CLIP models: connect clip" in told
    assert comfy_server.probed("caption alone")[1] == {"value": SENTENCE}
    assert not (comfy_server.output / "probe" / "no score.safetensors").exists()
