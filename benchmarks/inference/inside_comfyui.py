"""What `benchmarks.inference` runs in ComfyUI's own interpreter; it prints JSON on its last line.

`python inside_comfyui.py COMFYUI import PACK`            seconds to import one pack
`python inside_comfyui.py COMFYUI sample PACK FOLDER ...`  seconds to sample, paired; see `sample`
`python inside_comfyui.py COMFYUI precision PACK FOLDER`   what merging loses; see `precision`
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import logging
import os
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

NAME = "custom_nodes/Co-EmoGen-pack"


def start(comfyui: str, flags: list[str]) -> None:
    """Make ComfyUI importable, as its main.py does."""
    os.chdir(comfyui)
    sys.path[0] = comfyui  # not this script's folder, where files are called as the standard library's are
    sys.argv = ["main.py", *flags]
    import comfy.options

    comfy.options.enable_args_parsing()
    logging.getLogger().setLevel(logging.ERROR)


def import_pack(pack: str) -> Any:
    """The pack as ComfyUI imports it, with its nodes."""
    spec = importlib.util.spec_from_file_location(
        NAME, Path(pack) / "__init__.py", submodule_search_locations=[pack]
    )
    assert spec is not None and spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    return asyncio.run(_nodes(module))


async def _nodes(module: Any) -> dict[str, Any]:
    extension = await module.comfy_entrypoint()
    return {node.GET_SCHEMA().node_id: node for node in await extension.get_node_list()}


def time_import(pack: str) -> dict[str, float]:
    """Seconds from nothing but ComfyUI to the pack's nodes."""
    import nodes  # noqa: F401  # ComfyUI's own, which is there before any pack

    begin = time.perf_counter()
    import_pack(pack)
    return {"seconds": time.perf_counter() - begin}


def sample(pack: str, folder: str, size: int, steps: int, rounds: int) -> dict[str, Any]:
    """Seconds of sampling one picture at guidance 7, in four graphs, in an order drawn anew every round.

    stock: the stock text encoder, and the stock LoraLoader with a plain LoRA of the same update.
    merged, routed: our nodes. bare: the stock text encoder and no LoRA.
    Loading and merging are done before the clock starts. Encoding a prompt, in rounds of its own: stock, the
    stock text encoder; ours, the sampler of embeddings and the conditioner.
    """
    import comfy.model_management
    import comfy.sd
    import comfy.utils
    import folder_paths
    import torch

    nodes = import_pack(pack)
    folder_paths.add_model_folder_path("coemogen", folder)
    model, clip = comfy.sd.load_checkpoint_guess_config(
        str(Path(folder) / "random-sd15.safetensors"), output_vae=False
    )[:2]

    def loaded(mode: str) -> tuple[Any, Any]:
        load = nodes["HiLoRALoader"].execute
        return load(model, "adapter.safetensors", "awe", "", 1.0, 1.0, mode, 0.0).args

    def ours(emotion: Any) -> Any:
        embeds = nodes["GaussianEmotionSampler"].execute(emotion, 0, 0, 1.0).args[0]
        return nodes["EmotionConditioner"].execute(clip, emotion, "{emotion}", 1.0, embeds).args[0]

    def text(prompt: str) -> Any:
        return clip.encode_from_tokens_scheduled(clip.tokenize(prompt))

    order = random.Random(0)
    (merged, emotion), (routed, _) = loaded("merged"), loaded("routed")
    encode = {"stock": lambda: text("a street"), "ours": lambda: ours(emotion)}
    encodings: dict[str, list[float]] = {name: [] for name in encode}
    for done in range(-1, rounds):  # the first, which puts the text encoder in its place, does not count
        for name in order.sample(list(encode), len(encode)):
            begin = time.perf_counter()
            encode[name]()
            _wait()
            if done >= 0:
                encodings[name].append(time.perf_counter() - begin)
    lora = comfy.utils.load_torch_file(str(Path(folder) / "plain-lora.safetensors"))
    stock, _ = comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0.0)
    graphs = {
        "stock": (stock, text("a street")),
        "merged": (merged, ours(emotion)),
        "routed": (routed, ours(emotion)),
        "bare": (model, text("a street")),
    }
    empty = text("")
    noise = torch.randn(1, 4, size // 8, size // 8, generator=torch.Generator().manual_seed(0))

    def run(name: str, count: int) -> float:
        patcher, positive = graphs[name]
        banks = patcher.get_nested_additional_models()
        comfy.model_management.load_models_gpu([patcher, *banks])
        sampler = comfy.samplers.KSampler(
            patcher, count, patcher.load_device, "euler", "normal", 1.0, patcher.model_options
        )
        begin = time.perf_counter()
        latents = sampler.sample(
            noise, positive, empty, 7.0, torch.zeros_like(noise), disable_pbar=True, seed=0
        )
        _wait()
        seconds = time.perf_counter() - begin
        assert latents.isfinite().all()  # noqa: S101
        return seconds

    import comfy.samplers

    for name in graphs:
        run(name, 1)
    seconds: dict[str, list[float]] = {name: [] for name in graphs}
    for done in range(rounds):
        for name in order.sample(list(graphs), len(graphs)):
            seconds[name].append(run(name, steps) / steps)
        medians = {name: round(statistics.median(values), 3) for name, values in seconds.items()}
        print(f"round {done + 1} of {rounds}: {medians}", file=sys.stderr, flush=True)
    device = str(model.load_device)
    return {"seconds_per_step": seconds, "seconds_of_encoding": encodings, "device": device}


def _wait() -> None:
    """Wait until a GPU has done all that it was given."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


STRENGTHS = (0.02, 0.1, 0.3, 1.0)


def precision(pack: str, folder: str) -> list[dict[str, float]]:
    """What rounding the merged weights costs, in the model's own storage type, at several strengths.

    Each row: the strength; the median size of the update against the weight it is added to; the effect of
    routed HiLoRA on the final latents; and how far merged is from routed, as a part of that effect.
    """
    import comfy.sd
    import folder_paths
    import torch

    nodes = import_pack(pack)
    folder_paths.add_model_folder_path("coemogen", folder)
    model, clip = comfy.sd.load_checkpoint_guess_config(
        str(Path(folder) / "random-sd15.safetensors"), output_vae=False
    )[:2]
    text = {prompt: clip.encode_from_tokens_scheduled(clip.tokenize(prompt)) for prompt in ("a street", "")}
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))

    def latents(patcher: Any) -> Any:
        import comfy.samplers

        sampler = comfy.samplers.KSampler(
            patcher, 4, patcher.load_device, "euler", "normal", 1.0, patcher.model_options
        )
        empty = torch.zeros_like(noise)
        return sampler.sample(noise, text["a street"], text[""], 5.0, empty, disable_pbar=True, seed=0)

    def loaded(mode: str, strength: float) -> tuple[Any, Any]:
        load = nodes["HiLoRALoader"].execute
        return load(model, "adapter.safetensors", "awe", "", strength, strength, mode, 1.0).args

    layers = importlib.import_module(f"{NAME}.nodes.model_layers")
    emotion = loaded("routed", 1.0)[1]
    gate = emotion.gates()[0]
    sizes = [
        float(
            emotion.adapter.hilora.merged_delta(layer, gate).norm()
            / model.get_model_object(f"diffusion_model.{path}").weight.float().norm()
        )
        for layer, path in layers.find_layers(model, emotion).items()
    ]
    bare, rows = latents(model), []
    for strength in STRENGTHS:
        routed = latents(loaded("routed", strength)[0])
        merged = latents(loaded("merged", strength)[0])
        effect = (routed - bare).norm()
        rows.append(
            {
                "strength": strength,
                "update_to_weight": strength * statistics.median(sizes),
                "effect": float(effect / bare.norm()),
                "lost_by_merging": float((merged - routed).norm() / effect),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("comfyui")
    parser.add_argument("task", choices=["import", "sample", "precision"])
    parser.add_argument("pack")
    parser.add_argument("folder", nargs="?", default="")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--flags", default="--cpu")
    told = parser.parse_args()
    start(told.comfyui, told.flags.split())
    import torch

    with torch.inference_mode():  # as ComfyUI runs its nodes
        if told.task == "import":
            found: Any = time_import(told.pack)
        elif told.task == "precision":
            found = precision(told.pack, told.folder)
        else:
            found = sample(told.pack, told.folder, told.size, told.steps, told.rounds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
