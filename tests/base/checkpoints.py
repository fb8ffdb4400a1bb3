"""Checkpoint files with random weights, under the names of the original Stable Diffusion code.

The names and shapes are derived here from the architecture itself (a U-Net of residual blocks and spatial
transformers, a KL autoencoder, CLIP's text tower), not from diffusers' renaming, which is under test.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

from coemogen_train.base.single_file import SD15_CONFIGS

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model."
Named = Iterator[tuple[str, tuple[int, ...]]]


def write_random_sd15(
    path: Path, configs: Path = SD15_CONFIGS, seed: int = 0, dtype: torch.dtype = torch.float16
) -> dict[str, torch.Tensor]:
    """Write a checkpoint of the sizes in `configs`, by default Stable Diffusion 1.5's full width (2.1 GB).

    Matrices have a standard deviation of 0.5 / sqrt(fan in), norms are 1, biases small: values stay finite.
    """
    weights = random_weights(checkpoint_shapes(configs), seed, dtype)
    save_file(weights, str(path))
    return weights


def random_weights(shapes: Named, seed: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Random tensors for names and shapes, cut out of one pool of numbers, which is faster than drawing."""
    generator = torch.Generator().manual_seed(seed)
    pool = torch.randn(2_097_169, generator=generator)  # a prime, so that cuts do not fall in step
    offset = 0
    weights = {}
    for name, shape in shapes:
        count = math.prod(shape)
        repeats = (offset + count) // len(pool) + 1
        source = pool if repeats == 1 else pool.repeat(repeats)
        values = source[offset : offset + count].view(shape)
        offset = (offset + count) % len(pool)
        if len(shape) == 1:
            values = 1 + 0.02 * values if "norm" in name or ".0.weight" in name else 0.02 * values
        elif "embedding" in name:
            values = 0.02 * values
        else:
            values = values * 0.5 / (count / shape[0]) ** 0.5
        weights[name] = values.to(dtype).contiguous()
    return weights


def write_tiny_configs(folder: Path) -> Path:
    """Stable Diffusion 1.5's configurations, every module in its place, at the smallest widths."""
    shutil.copytree(SD15_CONFIGS, folder)
    changes = {
        "unet": {
            "block_out_channels": [8, 16, 16, 16],
            "attention_head_dim": 2,
            "norm_num_groups": 4,
            "cross_attention_dim": 16,
            "sample_size": 8,
        },
        "vae": {"block_out_channels": [8, 8, 16, 16], "norm_num_groups": 4, "sample_size": 64},
        "text_encoder": {
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "projection_dim": 16,
        },
    }
    for part, change in changes.items():
        path = folder / part / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    return folder


def checkpoint_shapes(configs: Path) -> Named:
    """All names and shapes of a checkpoint whose parts have the sizes in `configs`."""
    unet, vae, text = (
        json.loads((configs / part / "config.json").read_text(encoding="utf-8"))
        for part in ("unet", "vae", "text_encoder")
    )
    yield from ((UNET + name, shape) for name, shape in _unet(unet))
    yield from ((VAE + name, shape) for name, shape in _vae(vae))
    yield from ((TEXT + name, shape) for name, shape in _text(text))


def _unet(config: dict) -> Named:
    channels, blocks = config["block_out_channels"], config["layers_per_block"]
    attends = [kind.startswith("CrossAttn") for kind in config["down_block_types"]]
    first, context = channels[0], config["cross_attention_dim"]
    time = 4 * first
    yield from _linear("time_embed.0", first, time)
    yield from _linear("time_embed.2", time, time)
    yield from _conv("input_blocks.0.0", config["in_channels"], first, 3)
    width, skips, index = first, [first], 1
    for level, out in enumerate(channels):
        for _ in range(blocks):
            yield from _residual(f"input_blocks.{index}.0", width, out, time)
            if attends[level]:
                yield from _transformer(f"input_blocks.{index}.1", out, context)
            width, index = out, index + 1
            skips.append(width)
        if level < len(channels) - 1:
            yield from _conv(f"input_blocks.{index}.0.op", width, width, 3)
            index += 1
            skips.append(width)
    yield from _residual("middle_block.0", width, width, time)
    yield from _transformer("middle_block.1", width, context)
    yield from _residual("middle_block.2", width, width, time)
    index = 0
    for level, out in reversed(list(enumerate(channels))):
        for block in range(blocks + 1):
            yield from _residual(f"output_blocks.{index}.0", width + skips.pop(), out, time)
            if attends[level]:
                yield from _transformer(f"output_blocks.{index}.1", out, context)
            width = out
            if level and block == blocks:
                yield from _conv(f"output_blocks.{index}.{1 + attends[level]}.conv", width, width, 3)
            index += 1
    yield from _norm("out.0", first)
    yield from _conv("out.2", first, config["out_channels"], 3)


def _residual(name: str, inputs: int, outputs: int, time: int) -> Named:
    yield from _norm(f"{name}.in_layers.0", inputs)
    yield from _conv(f"{name}.in_layers.2", inputs, outputs, 3)
    yield from _linear(f"{name}.emb_layers.1", time, outputs)
    yield from _norm(f"{name}.out_layers.0", outputs)
    yield from _conv(f"{name}.out_layers.3", outputs, outputs, 3)
    if inputs != outputs:
        yield from _conv(f"{name}.skip_connection", inputs, outputs, 1)


def _transformer(name: str, width: int, context: int) -> Named:
    yield from _norm(f"{name}.norm", width)
    yield from _conv(f"{name}.proj_in", width, width, 1)
    block = f"{name}.transformer_blocks.0"
    for attention, source in (("attn1", width), ("attn2", context)):
        yield f"{block}.{attention}.to_q.weight", (width, width)
        yield f"{block}.{attention}.to_k.weight", (width, source)
        yield f"{block}.{attention}.to_v.weight", (width, source)
        yield from _linear(f"{block}.{attention}.to_out.0", width, width)
    yield from _linear(f"{block}.ff.net.0.proj", width, 8 * width)
    yield from _linear(f"{block}.ff.net.2", 4 * width, width)
    for norm in ("norm1", "norm2", "norm3"):
        yield from _norm(f"{block}.{norm}", width)
    yield from _conv(f"{name}.proj_out", width, width, 1)


def _vae(config: dict) -> Named:
    channels, blocks, latent = (
        config["block_out_channels"],
        config["layers_per_block"],
        config["latent_channels"],
    )
    yield from _conv("encoder.conv_in", config["in_channels"], channels[0], 3)
    width = channels[0]
    for level, out in enumerate(channels):
        for block in range(blocks):
            yield from _vae_block(f"encoder.down.{level}.block.{block}", width, out)
            width = out
        if level < len(channels) - 1:
            yield from _conv(f"encoder.down.{level}.downsample.conv", width, width, 3)
    yield from _vae_middle("encoder.mid", width)
    yield from _norm("encoder.norm_out", width)
    yield from _conv("encoder.conv_out", width, 2 * latent, 3)
    yield from _conv("decoder.conv_in", latent, width, 3)
    yield from _vae_middle("decoder.mid", width)
    for level, out in reversed(list(enumerate(channels))):
        for block in range(blocks + 1):
            yield from _vae_block(f"decoder.up.{level}.block.{block}", width, out)
            width = out
        if level:
            yield from _conv(f"decoder.up.{level}.upsample.conv", width, width, 3)
    yield from _norm("decoder.norm_out", width)
    yield from _conv("decoder.conv_out", width, config["out_channels"], 3)
    yield from _conv("quant_conv", 2 * latent, 2 * latent, 1)
    yield from _conv("post_quant_conv", latent, latent, 1)


def _vae_block(name: str, inputs: int, outputs: int) -> Named:
    yield from _norm(f"{name}.norm1", inputs)
    yield from _conv(f"{name}.conv1", inputs, outputs, 3)
    yield from _norm(f"{name}.norm2", outputs)
    yield from _conv(f"{name}.conv2", outputs, outputs, 3)
    if inputs != outputs:
        yield from _conv(f"{name}.nin_shortcut", inputs, outputs, 1)


def _vae_middle(name: str, width: int) -> Named:
    yield from _vae_block(f"{name}.block_1", width, width)
    yield from _norm(f"{name}.attn_1.norm", width)
    for part in ("q", "k", "v", "proj_out"):
        yield from _conv(f"{name}.attn_1.{part}", width, width, 1)
    yield from _vae_block(f"{name}.block_2", width, width)


def _text(config: dict) -> Named:
    width, hidden = config["hidden_size"], config["intermediate_size"]
    yield "embeddings.token_embedding.weight", (config["vocab_size"], width)
    yield "embeddings.position_embedding.weight", (config["max_position_embeddings"], width)
    for layer in range(config["num_hidden_layers"]):
        name = f"encoder.layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _linear(f"{name}.self_attn.{part}", width, width)
        yield from _norm(f"{name}.layer_norm1", width)
        yield from _linear(f"{name}.mlp.fc1", width, hidden)
        yield from _linear(f"{name}.mlp.fc2", hidden, width)
        yield from _norm(f"{name}.layer_norm2", width)
    yield from _norm("final_layer_norm", width)


def _conv(name: str, inputs: int, outputs: int, kernel: int) -> Named:
    yield f"{name}.weight", (outputs, inputs, kernel, kernel)
    yield f"{name}.bias", (outputs,)


def _linear(name: str, inputs: int, outputs: int) -> Named:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _norm(name: str, width: int) -> Named:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)
