"""A base model, a vision model and a training set of a few thousand weights, made on the spot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

EMOTIONS = ("calm", "joy", "storm")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789,.-'"
LENGTH = 16


def write_tokenizer(folder: Path) -> None:
    """A CLIP tokenizer that knows letters only."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": LENGTH,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def text_config(**more):
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=2 * len(LETTERS) + 2,
        hidden_size=16,
        intermediate_size=32,
        projection_dim=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        bos_token_id=2 * len(LETTERS),
        eos_token_id=2 * len(LETTERS) + 1,
        **more,
    )


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory) -> Path:
    """A diffusers folder: 16 x 16 pixels, latents 4 x 8 x 8."""
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("base")
    UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=8,
        norm_num_groups=4,
    ).save_pretrained(folder / "unet")
    AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    ).save_pretrained(folder / "vae")
    CLIPTextModel(text_config()).save_pretrained(folder / "text_encoder")
    DDPMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1
    ).save_pretrained(folder / "scheduler")
    write_tokenizer(folder / "tokenizer")
    return folder


@pytest.fixture(scope="session")
def vision_folder(tmp_path_factory) -> Path:
    """A CLIPModel folder; image embeddings are 16 wide."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPVisionConfig

    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("clip")
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        projection_dim=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    )
    config = CLIPConfig(
        text_config=text_config().to_dict(), vision_config=vision.to_dict(), projection_dim=16
    )
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(
        folder
    )
    write_tokenizer(folder)
    return folder


@pytest.fixture()
def base(base_folder):
    from coemogen_train.base.load import load_base

    return load_base(str(base_folder))


@pytest.fixture(scope="session")
def training_set(tmp_path_factory) -> Path:
    """3 emotions in 2 polarities, each with 6 pictures to train on and 2 held out, all captioned."""
    from PIL import Image

    from coemogen_train.data.prepare import PrepareOptions, prepare_table
    from coemogen_train.emotions import Emotion, Taxonomy

    folder = tmp_path_factory.mktemp("source")
    generator = torch.Generator().manual_seed(4)
    lines = []
    for emotion in EMOTIONS:
        for number in range(8):
            name = f"{emotion}{number}.png"
            pixels = torch.randint(256, (16, 16, 3), generator=generator, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(folder / name)
            caption = f"{'abcdefgh'[number]} tree"
            row = {
                "image": name,
                "emotion": emotion,
                "split": "train" if number < 6 else "val",
                "caption": caption,
                "objects": ["oak"],
            }
            lines.append(json.dumps(row))
    (folder / "samples.jsonl").write_text("\n".join(lines), encoding="utf-8")
    polarities = ("good", "good", "bad")
    taxonomy = Taxonomy("three", tuple(map(Emotion, EMOTIONS, polarities)))
    out = tmp_path_factory.mktemp("set")
    prepare_table(folder / "samples.jsonl", out, PrepareOptions(taxonomy=taxonomy, workers=1))
    return out


@pytest.fixture()
def settings(base_folder, vision_folder, training_set, tmp_path) -> dict:
    """Settings of a run of a few seconds."""
    return {
        "base": str(base_folder),
        "vision": str(vision_folder),
        "set": str(training_set),
        "out": str(tmp_path / "run"),
        "resolution": 16,
        "steps": 6,
        "batch_size": 4,
        "rank": 2,
        "tokens": 2,
        "visual_tokens": 2,
        "hidden": 8,
        "learning_rate": 0.01,
        "warmup_steps": 2,
        "v_dropout": 0.2,
        "log_every": 2,
        "save_every": 3,
        "preview_every": 0,
        "validate_every": 0,
        "gaussian_components": 1,
    }
