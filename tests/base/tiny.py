"""The smallest base model and CLIP in the libraries' own folder layouts, made on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from coemogen_train.base.tokenizer import _byte_characters

WIDTH = 16
LENGTH = 24


def write_tokenizer(folder: Path, max_length: int = LENGTH) -> None:
    """A CLIPTokenizer that knows letters only: 512 byte tokens and the two marks."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = _byte_characters()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": max_length,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
    }
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def text_config(**changes: Any) -> dict[str, Any]:
    """Sizes of the text tower; its eos_token_id is the wrong one that published configs carry."""
    return {
        "vocab_size": 514,
        "hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": LENGTH,
        "projection_dim": 12,
        "bos_token_id": 512,
        "eos_token_id": 2,
        "pad_token_id": 513,
        **changes,
    }


def write_base(folder: Path, dtype: torch.dtype = torch.float16) -> Path:
    """A diffusers folder: 32-pixel pictures, 8-channel latents at a quarter of the side."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=8,
        norm_num_groups=4,
        scaling_factor=0.7,
        sample_size=32,
    )
    text_encoder = CLIPTextModel(CLIPTextConfig(**text_config()))
    scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    for part, module in (("unet", unet), ("vae", vae), ("text_encoder", text_encoder)):
        module.to(dtype).save_pretrained(str(folder / part))
    scheduler.save_pretrained(str(folder / "scheduler"))
    write_tokenizer(folder / "tokenizer")
    return folder


def write_clip(folder: Path, image_size: int = 32) -> Path:
    """A transformers CLIP folder: model, image processor, tokenizer."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(1)
    vision = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
        "image_size": image_size,
        "patch_size": 8,
        "projection_dim": 12,
    }
    model = CLIPModel(CLIPConfig(text_config=text_config(), vision_config=vision, projection_dim=12))
    model.save_pretrained(str(folder))
    processor = CLIPImageProcessor(
        size={"shortest_edge": image_size}, crop_size={"height": image_size, "width": image_size}
    )
    processor.save_pretrained(str(folder))
    write_tokenizer(folder)
    return folder
