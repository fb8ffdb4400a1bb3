"""The toy base model: the classes of Stable Diffusion 1.5, at sizes that a laptop's processor can train."""

from __future__ import annotations

import json
from pathlib import Path

from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

from ..canvas import PICTURE_SIZE

TEXT_WIDTH = 96
VISION_WIDTH = 104
MAX_TOKENS = 26
LATENT_CHANNELS = 8
START, END = "<|startoftext|>", "<|endoftext|>"


def make_autoencoder() -> AutoencoderKL:
    """64 x 64 x 3 pixels to 16 x 16 x 8 latents."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=4,
        sample_size=PICTURE_SIZE,
        mid_block_add_attention=False,
    )


def make_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=PICTURE_SIZE // 4,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 64, 112),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def make_noise_schedule() -> DDPMScheduler:
    """Stable Diffusion 1.5's own schedule."""
    return DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )


def make_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Both towers of CLIP, projected to a common width."""
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 4 * TEXT_WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": MAX_TOKENS,
        "hidden_act": "quick_gelu",
        **ids,
    }
    vision = {
        "hidden_size": VISION_WIDTH,
        "intermediate_size": 4 * VISION_WIDTH,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": PICTURE_SIZE,
        "patch_size": 8,
        "hidden_act": "quick_gelu",
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=TEXT_WIDTH))


def make_image_processor() -> CLIPImageProcessor:
    size = {"height": PICTURE_SIZE, "width": PICTURE_SIZE}
    return CLIPImageProcessor(
        size={"shortest_edge": PICTURE_SIZE}, crop_size=size, image_mean=[0.5] * 3, image_std=[0.25] * 3
    )


def make_tokenizer(captions: list[str], folder: Path) -> CLIPTokenizer:
    """A CLIP tokenizer whose byte-pair merges build the words of the toy world, each one token.

    Made once and then read: the weights depend on its numbers. The library numbers letters in an order that
    changes from run to run, so they are numbered here.
    """
    if not (folder / "vocab.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
        bpe.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.BpeTrainer(
            vocab_size=4096,
            min_frequency=1,
            end_of_word_suffix="</w>",
            initial_alphabet=list("abcdefghijklmnopqrstuvwxyz,.'0123456789"),
            show_progress=False,
        )
        bpe.train_from_iterator(captions, trainer)
        bpe.model.save(str(folder))
        tokens = [*sorted(bpe.get_vocab(), key=lambda token: (len(token), token)), START, END]
        vocabulary = {token: index for index, token in enumerate(tokens)}
        (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=MAX_TOKENS)
