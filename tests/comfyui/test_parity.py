"""ComfyUI's graph gives what diffusers gives for the same weights, adapter, embeds and starting latents.

The reference puts HiLoRA into the weights by itself (W + the sum of weight * up_g down_g) and leaves all else
to diffusers' pipeline. The conditions under which the two can be compared are ComfyUI's single precision
throughout, Euler on the normal schedule with 10 steps (more of them round the timesteps apart), and noise
that both are given, since they scale what they draw otherwise.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from coemogen_train.adapter.condition import encode_text, prompt_ids
from coemogen_train.adapter.file import Adapter, load_adapter
from coemogen_train.base.declared import Wanted
from coemogen_train.base.model import BaseModel
from coemogen_train.base.single_file import load_single_file
from coemogen_train.emotions import MIKELS

from .checkpoints import configs
from .graphs import Graph, Node
from .models import Models
from .server import ComfyServer

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]

STEPS, GUIDANCE, SEED = 10, 3.0, 11
# What Stable Diffusion's latents are multiplied by for the U-Net; ComfyUI's wires carry them without it.
LATENT_SCALE = 0.18215


@dataclass
class Reference:
    """The same checkpoint and adapter in diffusers."""

    base: BaseModel
    adapter: Adapter
    noise: Tensor

    def embeds(self, emotion: Tensor, seed: int = SEED) -> Tensor:
        return self.adapter.gaussians.sample(emotion, seed)

    @torch.no_grad()
    def condition(self, emotion: Tensor, embeds: Tensor, prompt: str = "{emotion}") -> Tensor:
        """[B, 77, 768]."""
        places = prompt_ids(self.base.tokenizer, prompt, self.adapter.info.tokens, self.base.max_length)
        pseudo_words = self.adapter.embedder(emotion, embeds)
        ids = places.input_ids.expand(len(emotion), -1)
        start = torch.full((len(emotion),), places.start)
        return encode_text(
            self.base.text_encoder, ids, self.base.tokenizer.eos_token_id, pseudo_words, start
        ).hidden

    def merged_unet(self, emotion: Tensor) -> Any:
        """The U-Net with one emotion row [E] in its weights."""
        unet = copy.deepcopy(self.base.unet)
        hilora, rank = self.adapter.hilora, self.adapter.hilora.rank
        polarity = torch.zeros(MIKELS.num_polarities)
        for index, weight in enumerate(emotion.tolist()):
            polarity[MIKELS.polarity_of[index]] += weight
        weights = torch.cat([emotion, polarity]).tolist()
        with torch.no_grad():
            for key in hilora.layers:
                down, up = hilora.matrices(key)
                for group, weight in enumerate(weights):
                    own = slice(group * rank, (group + 1) * rank)
                    scale = weight * hilora.alpha / rank
                    unet.get_submodule(key).weight += scale * up[:, own] @ down[own]
        return unet

    @torch.no_grad()
    def latents(self, emotion: Tensor, condition: Tensor, noise: Tensor) -> Tensor:
        """One picture's final latents, HiLoRA on both branches, by diffusers' own pipeline."""
        from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline

        scheduler = EulerDiscreteScheduler.from_config(self.base.scheduler_config)
        pipeline = StableDiffusionPipeline(
            self.base.vae,
            self.base.text_encoder,
            self.base.tokenizer,
            self.merged_unet(emotion),
            scheduler,
            None,
            None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        scheduler.set_timesteps(STEPS)
        # The pipeline multiplies by the largest sigma, ComfyUI by the root of 1 + its square.
        start = noise * (1 + scheduler.sigmas[0] ** 2) ** 0.5 / scheduler.init_noise_sigma
        ids = prompt_ids(self.base.tokenizer, "", 0, self.base.max_length).input_ids[None]
        empty = encode_text(self.base.text_encoder, ids, self.base.tokenizer.eos_token_id).hidden
        return pipeline(
            prompt_embeds=condition,
            negative_prompt_embeds=empty,
            latents=start,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            height=64,
            width=64,
            output_type="latent",
        ).images

    @torch.no_grad()
    def latents_with_bare_negative(self, emotion: Tensor, condition: Tensor, noise: Tensor) -> Tensor:
        """The same with HiLoRA on the conditional branch only: two U-Nets, diffusers' scheduler."""
        from diffusers import EulerDiscreteScheduler

        scheduler = EulerDiscreteScheduler.from_config(self.base.scheduler_config)
        scheduler.set_timesteps(STEPS)
        ids = prompt_ids(self.base.tokenizer, "", 0, self.base.max_length).input_ids[None]
        empty = encode_text(self.base.text_encoder, ids, self.base.tokenizer.eos_token_id).hidden
        unet, latents = self.merged_unet(emotion), noise * (1 + scheduler.sigmas[0] ** 2) ** 0.5
        for timestep in scheduler.timesteps:
            scaled = scheduler.scale_model_input(latents, timestep)
            negative = self.base.unet(scaled, timestep, encoder_hidden_states=empty).sample
            positive = unet(scaled, timestep, encoder_hidden_states=condition).sample
            predicted = negative + GUIDANCE * (positive - negative)
            latents = scheduler.step(predicted, timestep, latents).prev_sample
        return latents


@pytest.fixture(scope="module")
def reference(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    path = models.path("checkpoints", models.checkpoint("names", vae="kl"))
    with configs(tmp_path_factory.mktemp("parity") / "configs", "names") as folder:
        base = load_single_file(path, configs=folder)
    adapter = load_adapter(models.path("coemogen", models.adapter("names")))
    noise = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    return Reference(base, adapter, noise)


@pytest.fixture(scope="module")
def exact_server(start_server: Callable[..., ComfyServer], reference: Reference) -> ComfyServer:
    return start_server("--cpu", "--force-fp32", "--fp32-text-enc")


@pytest.fixture
def noise_file(reference: Reference, tmp_path: Path) -> Callable[[slice], str]:
    """Some of the noise, as a file that ProbeLoad reads."""

    def write(pictures: slice) -> str:
        path = tmp_path / f"noise-{pictures.start}-{pictures.stop}.safetensors"
        save_file({"value": reference.noise[pictures].contiguous()}, str(path))
        return str(path)

    return write


def run_graph(
    server: ComfyServer, noise: str, pictures: int, prompt: str = "{emotion}", seed: int = SEED, **loader: Any
) -> tuple[Tensor, Tensor]:
    """Of a graph with our nodes: conditioning [B, 77, 768], latents [B, 4, 8, 8] in the U-Net's scale."""
    graph = Graph()
    base = graph.checkpoint("names-kl.safetensors")
    emotional = graph.loader(base[0], "names.safetensors", **loader)
    scenes = graph.scenes(emotional[1], seed=seed)
    positive = graph.condition(base[1], emotional[1], embeds=scenes[0], prompt=prompt)
    sampled = sample_from_noise(graph, emotional[0], positive, graph.text(base[1]), noise, pictures)
    graph.add("ProbeSave", value=positive, name="condition")
    graph.add("ProbeSave", value=sampled, name="latents")
    server.run(graph.prompt)
    return server.probed("condition")[0]["0.cond"], server.probed("latents")[0]["samples"] * LATENT_SCALE


def sample_from_noise(
    graph: Graph, model: Any, positive: Any, negative: Any, noise: str, pictures: int
) -> Node:
    return graph.add(
        "SamplerCustomAdvanced",
        noise=graph.add("ProbeLoad", path=noise, tensor="value")[4],
        guider=graph.add("CFGGuider", model=model, positive=positive, negative=negative, cfg=GUIDANCE),
        sampler=graph.add("KSamplerSelect", sampler_name="euler"),
        sigmas=graph.add("BasicScheduler", model=model, scheduler="normal", steps=STEPS, denoise=1.0),
        latent_image=graph.latent(pictures),
    )


def apart(found: Tensor, wanted: Tensor) -> float:
    """The largest relative distance of a picture's tensor; told where pytest runs with -s."""
    largest = max(
        float((one - other).norm() / other.norm()) for one, other in zip(found, wanted, strict=True)
    )
    print(f"apart by {largest:.2g}")
    return largest


@pytest.mark.parametrize("mode", ["merged", "routed"])
@pytest.mark.parametrize("mixture", ["fear", "awe 0.7 + fear 0.5"])
def test_one_picture_is_diffusers(
    exact_server: ComfyServer,
    reference: Reference,
    noise_file: Callable[[slice], str],
    mode: str,
    mixture: str,
) -> None:
    from coemogen_train.emotions import parse_mixture

    emotion = torch.tensor(parse_mixture(mixture, MIKELS))
    condition, latents = run_graph(
        exact_server, noise_file(slice(0, 1)), 1, mixture=mixture, mode=mode, negative_strength=1.0
    )
    wanted = reference.condition(emotion, reference.embeds(emotion))
    assert apart(condition, wanted) < 1e-5
    assert apart(latents, reference.latents(emotion[0], wanted, reference.noise[:1])) < 1e-4


def test_the_bare_negative_is_diffusers(
    exact_server: ComfyServer, reference: Reference, noise_file: Callable[[slice], str]
) -> None:
    emotion = torch.eye(8)[[MIKELS.index("sadness")]]
    _, latents = run_graph(exact_server, noise_file(slice(0, 1)), 1, emotion="sadness", negative_strength=0.0)
    wanted = reference.condition(emotion, reference.embeds(emotion))
    alone = reference.latents_with_bare_negative(emotion[0], wanted, reference.noise[:1])
    assert apart(latents, alone) < 1e-4
    assert apart(latents, reference.latents(emotion[0], wanted, reference.noise[:1])) > 1e-2


def test_a_content_prompt_is_the_trainers(
    exact_server: ComfyServer, reference: Reference, noise_file: Callable[[slice], str]
) -> None:
    emotion = torch.eye(8)[[MIKELS.index("awe")]]
    prompt = "a street at night, {emotion}, seen from above"
    condition, _ = run_graph(exact_server, noise_file(slice(0, 1)), 1, prompt, mode="merged")
    assert apart(condition, reference.condition(emotion, reference.embeds(emotion), prompt)) < 1e-5


def test_clip_skip_is_the_trainers(
    exact_server: ComfyServer, reference: Reference, models: Models, tmp_path: Path
) -> None:
    """CLIP Set Last Layer -2 is the trainer's clip skip 2, for the same pseudo-words."""
    path = models.path("checkpoints", models.checkpoint("names", vae="kl"))
    with configs(tmp_path / "configs", "names") as folder:
        skipping = Reference(
            load_single_file(path, configs=folder, wanted=Wanted(clip_skip=2)),
            reference.adapter,
            reference.noise,
        )
    graph = Graph()
    base = graph.checkpoint(path.name)
    chosen = graph.loader(base[0], "names.safetensors", emotion="fear")
    clip = graph.add("CLIPSetLastLayer", clip=base[1], stop_at_clip_layer=-2)
    condition = graph.condition(clip, chosen[1], embeds=graph.scenes(chosen[1], seed=SEED)[0])
    graph.add("ProbeSave", value=condition, name="skipped")
    exact_server.run(graph.prompt)
    found = exact_server.probed("skipped")[0]["0.cond"]
    assert "trained at clip skip 1, and this CLIP is read at 2" in exact_server.log()
    emotion = torch.eye(8)[[MIKELS.index("fear")]]
    embeds = reference.embeds(emotion)
    assert apart(found, skipping.condition(emotion, embeds)) < 1e-5
    assert apart(found, reference.condition(emotion, embeds)) > 0.01


def test_eight_emotions_in_one_batch_are_eight_single_runs(
    exact_server: ComfyServer, reference: Reference, noise_file: Callable[[slice], str]
) -> None:
    emotions = torch.eye(8)
    condition, latents = run_graph(
        exact_server, noise_file(slice(0, 8)), 8, mixture="all", negative_strength=1.0
    )
    wanted = reference.condition(emotions, reference.embeds(emotions))
    assert apart(condition, wanted) < 1e-5
    for picture, name in enumerate(MIKELS.names):
        own = slice(picture, picture + 1)
        _, alone = run_graph(
            exact_server, noise_file(own), 1, seed=SEED + picture, emotion=name, negative_strength=1.0
        )
        assert apart(latents[own], alone) < 1e-4
        if picture % 3 == 0:  # the pipeline is the slower of the two
            pipeline = reference.latents(emotions[picture], wanted[own], reference.noise[own])
            assert apart(latents[own], pipeline) < 1e-4
