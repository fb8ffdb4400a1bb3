"""Adapters as if trained, for the random checkpoints; every tensor holds numbers of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from coemogen_train.adapter.file import Adapter, make_embedder, make_hilora, save_adapter
from coemogen_train.adapter.gaussians import EmotionGaussians
from coemogen_train.adapter.info import AdapterInfo, BaseInfo, TextEncoderInfo, VisionInfo
from coemogen_train.emotions import MIKELS, Emotion, Taxonomy

from .checkpoints import attention_layers

TWO_EMOTIONS = Taxonomy("places", (Emotion("nostalgia", "positive"), Emotion("unease", "negative")))


def make_adapter(
    unet: str = "small",
    taxonomy: Taxonomy = MIKELS,
    seed: int = 0,
    components: int = 2,
    covariance: str = "diagonal",
    **changes: Any,
) -> Adapter:
    """An adapter of the size of checkpoint `unet`, strong enough that every emotion changes a picture.

    covariance: "diagonal" or "full" (9 MB more for every component). changes: fields of AdapterInfo.
    """
    settings: dict[str, Any] = {
        "base": BaseInfo("stable-diffusion-v1", "epsilon", 768, f"random-{unet}"),
        "text_encoders": (TextEncoderInfo(768),),
        "vision": VisionInfo("openai/clip-vit-large-patch14", 768),
        "layers": attention_layers(unet),
        "licence": "Apache-2.0",
        "origin": "random numbers",
    }
    info = AdapterInfo(taxonomy=taxonomy, **settings | changes)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        embedder, hilora = make_embedder(info, 0.4), make_hilora(info)
        for tensor in hilora.up.values():
            tensor.normal_(std=0.3)
        for tensor in embedder.mapper.state_dict().values():
            tensor.normal_(std=tensor.shape[-1] ** -0.5)
        count, width = taxonomy.num_emotions, info.vision.width
        factor = 0.3 * torch.rand(count, components, width)
        if covariance == "full":
            factor = torch.diag_embed(factor) + torch.randn(count, components, width, width).tril(-1) / width
        gaussians = EmotionGaussians(
            torch.rand(count, components).add(0.1).softmax(dim=1),
            torch.randn(count, components, width),
            factor.half(),
        )
    return Adapter(info, embedder.eval(), hilora.eval(), gaussians)


def write_adapter(path: Path, unet: str = "small", **choices: Any) -> Path:
    """Save `make_adapter(unet, ...)`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_adapter(make_adapter(unet, **choices), path)
    return path


def write_damaged_adapter(path: Path, sound: Path) -> Path:
    """A copy of a sound adapter in which one bit of the last tensor is flipped."""
    data = bytearray(sound.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return path


def write_adapter_of_another_width(path: Path) -> Path:
    """An adapter for a base whose text encoder and U-Net are 1024 wide, as Stable Diffusion 2's are."""
    return write_adapter(
        path,
        base=BaseInfo("stable-diffusion-v2", "epsilon", 1024, "random-1024"),
        text_encoders=(TextEncoderInfo(1024),),
        layers={"mid_block.attentions.0.transformer_blocks.0.attn2.to_k": (1024, 320)},
        components=1,
    )
