"""The models that speed and memory are measured on: Stable Diffusion 1.5's sizes with random weights, made in
memory in seconds, and the toy's own weights. What is around them is the product's.
"""

from __future__ import annotations

import json
from typing import Any, Literal

import torch
from torch import Tensor, nn

from coemogen_train.adapter.condition import EmotionEmbedder, prompt_ids
from coemogen_train.adapter.encoder import VisualPerceptionEncoder
from coemogen_train.adapter.hilora import HiLoRA
from coemogen_train.adapter.mapper import NeuroSymbolicMapper
from coemogen_train.base.load import load_base
from coemogen_train.base.model import BaseModel, freeze
from coemogen_train.base.single_file import SD15_CONFIGS
from coemogen_train.base.tokenizer import clip_tokenizer
from coemogen_train.emotions import Taxonomy
from coemogen_train.train.batches import Batch
from coemogen_train.train.objective import CoEmoGenObjective

Size = Literal["sd15", "toy"]
CAPTION = "an old man sits alone on a bench under bare trees in grey rain, his head bowed over folded hands"


def make_base(size: Size, device: torch.device, dtype: torch.dtype = torch.float32) -> BaseModel:
    """The frozen base; the U-Net in `dtype`, the rest in float32, as a run has them: channels last."""
    base = _random_sd15() if size == "sd15" else load_base("toy", torch.device("cpu"), torch.float32)
    freeze(base.unet, device, dtype)
    for part in (base.vae, base.text_encoder):
        freeze(part, device, torch.float32)
    return base


def make_objective(base: BaseModel, taxonomy: Taxonomy, vision_width: int = 768) -> CoEmoGenObjective:
    """What a run trains, at its default settings, around `base`; `.attached.remove()` takes it off."""
    torch.manual_seed(0)
    mapper = NeuroSymbolicMapper(taxonomy.num_emotions, base.width, 4, 512, "one_hot", None)
    embedder = EmotionEmbedder(mapper, VisualPerceptionEncoder(base.width, vision_width, 4, 0.4))
    hilora = HiLoRA.for_unet(base.unet, taxonomy.polarity_of, 4)
    return CoEmoGenObjective(base, embedder, hilora).to(base.device)


def make_batch(
    base: BaseModel, taxonomy: Taxonomy, count: int, resolution: int, vision_width: int = 768, seed: int = 0
) -> Batch:
    """A batch of `count` pictures of `resolution` pixels, all emotions by turns, on the base's device."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*sizes: int) -> Tensor:
        return torch.randn(*sizes, generator=generator)

    side = resolution // base.vae_factor
    prompt = prompt_ids(base.tokenizer, "{emotion}", 4, base.max_length)
    caption = prompt_ids(base.tokenizer, CAPTION, 4, base.max_length)
    return Batch(
        latents=normal(count, base.latent_channels, side, side),
        noise=normal(count, base.latent_channels, side, side),
        timesteps=torch.randint(0, 1000, (count,), generator=generator),
        image_embeds=normal(count, vision_width),
        emotion=torch.eye(taxonomy.num_emotions)[torch.arange(count) % taxonomy.num_emotions],
        prompt_ids=prompt.input_ids.expand(count, -1),
        prompt_start=torch.full((count,), prompt.start),
        caption_ids=caption.input_ids.expand(count, -1),
        drop_condition=torch.zeros(count, dtype=torch.bool),
    ).to(base.device)


def _random_sd15() -> BaseModel:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    def config(part: str, name: str = "config") -> dict[str, Any]:
        return dict(json.loads((SD15_CONFIGS / part / f"{name}.json").read_text(encoding="utf-8")))

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config("unet"))
        vae = AutoencoderKL.from_config(config("vae"))
    text_encoder = CLIPTextModel(CLIPTextConfig(**config("text_encoder")))
    for number, model in enumerate((unet, vae)):
        _fill(model.to_empty(device="cpu"), seed=number)
    return BaseModel(
        unet=unet,
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=clip_tokenizer(),
        scheduler_config=config("scheduler", "scheduler_config"),
        name="random weights of SD 1.5's sizes",
        architecture="stable-diffusion-v1",
    )


@torch.no_grad()
def _fill(model: nn.Module, seed: int) -> None:
    """Numbers with which values stay finite: matrices of deviation 0.5 / sqrt(fan in), norms 1, biases 0."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
        else:
            bound = 0.5 * (3 / parameter[0].numel()) ** 0.5
            parameter.uniform_(-bound, bound, generator=generator)
