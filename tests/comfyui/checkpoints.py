"""Model files with random weights, in the shapes by which ComfyUI knows them; made on the spot.

Names and shapes come from `tests/base/checkpoints.py`, where they are derived from the architecture. ComfyUI
tells a U-Net's architecture from its first width (320) and its context width (768); the number of levels and
blocks is free, and the text encoder's sizes are fixed (123 M parameters, the floor of a file's size).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from coemogen_train.base.single_file import SD15_CONFIGS

from ..base.checkpoints import TEXT, UNET, VAE, Named, checkpoint_shapes, random_weights

# widths of the levels, residual blocks per level, whether a level attends
UNETS: dict[str, tuple[tuple[int, ...], int, tuple[bool, ...]]] = {
    "small": ((320,), 1, (True,)),  # 3 attention blocks with the middle one; 303 MB
    "names": ((320,) * 4, 2, (True, True, True, False)),  # every module name of SD 1.5; 474 MB
    "full": ((320, 640, 1280, 1280), 2, (True, True, True, False)),  # SD 1.5 as it is; 2.0 GB
}


def write_checkpoint(
    path: Path, unet: str = "small", seed: int = 0, vae: str = "tiny", dtype: torch.dtype = torch.float16
) -> Path:
    """A Stable Diffusion 1.5 checkpoint with random weights, from which pictures come finite and not flat.

    unet: a key of `UNETS`. vae: "tiny" (TAESD, 2.4 M parameters) or "kl", Stable Diffusion's own (83.7 M).
    """
    with configs(path.with_suffix(".configs"), unet) as folder:
        shapes = [(name, shape) for name, shape in checkpoint_shapes(folder) if not name.startswith(VAE)]
        if vae == "kl":
            shapes += [(name, shape) for name, shape in checkpoint_shapes(folder) if name.startswith(VAE)]
    if vae == "tiny":
        shapes += [(f"{VAE}taesd_{name}", shape) for name, shape in _tiny_vae()]
    return _save(path, _louder(random_weights(iter(shapes), seed, torch.float32)), dtype)


def attention_layers(unet: str) -> dict[str, tuple[int, int]]:
    """The attention projections by their names in a diffusers U-Net -> (in, out): what HiLoRA adapts."""
    widths, blocks, attends = UNETS[unet]
    places = [("mid_block.attentions.0", widths[-1])]
    for level, width in enumerate(widths):
        if attends[level]:
            places += [(f"down_blocks.{level}.attentions.{i}", width) for i in range(blocks)]
            up = len(widths) - 1 - level
            places += [(f"up_blocks.{up}.attentions.{i}", width) for i in range(blocks + 1)]
    layers = {}
    for place, width in places:
        for attention, source in (("attn1", width), ("attn2", 768)):
            name = f"{place}.transformer_blocks.0.{attention}"
            layers |= {f"{name}.to_q": (width, width), f"{name}.to_out.0": (width, width)}
            layers |= {f"{name}.to_k": (source, width), f"{name}.to_v": (source, width)}
    return layers


def write_controlnet(path: Path, unet: str = "small", seed: int = 1) -> Path:
    """A ControlNet for checkpoints of this U-Net, as core's "Load ControlNet Model" takes it."""
    with configs(path.with_suffix(".configs"), unet) as folder:
        own = [(name.removeprefix(UNET), shape) for name, shape in checkpoint_shapes(folder)]
    parts = ("time_embed", "input_blocks", "middle_block")
    shapes = [(name, shape) for name, shape in own if name.startswith(parts)]
    widths, blocks, _ = UNETS[unet]
    skips = [widths[0]]
    for level, width in enumerate(widths):
        skips += [width] * blocks + [width] * (level < len(widths) - 1)
    for index, width in enumerate(skips):
        shapes += _conv(f"zero_convs.{index}.0", width, width, 1)
    shapes += _conv("middle_block_out.0", widths[-1], widths[-1], 1)
    hint = (3, 16, 16, 32, 32, 96, 96, 256, widths[0])
    for index, (inputs, outputs) in enumerate(pairwise(hint)):
        shapes += _conv(f"input_hint_block.{2 * index}", inputs, outputs, 3)
    return _save(path, _louder(random_weights(iter(shapes), seed, torch.float32)), torch.float16)


def write_clip_vision(path: Path, seed: int = 2) -> Path:
    """A CLIP ViT-L/14 image encoder, full width (607 MB): ComfyUI fixes its 24 layers."""
    width, hidden = 1024, 4096
    embeddings = "vision_model.embeddings"
    shapes: list[tuple[str, tuple[int, ...]]] = [
        (f"{embeddings}.class_embedding", (width,)),
        (f"{embeddings}.patch_embedding.weight", (width, 3, 14, 14)),
        (f"{embeddings}.position_embedding.weight", (257, width)),
        ("visual_projection.weight", (768, width)),
    ]
    for norm in ("pre_layrnorm", "post_layernorm"):  # the first is spelt so in every file of this kind
        shapes += _norm(f"vision_model.{norm}", width)
    for layer in range(24):
        shapes += _clip_layer(f"vision_model.encoder.layers.{layer}", width, hidden)
    return _save(path, random_weights(iter(shapes), seed, torch.float32), torch.float16)


def write_clip_text(path: Path, seed: int = 3) -> Path:
    """CLIP ViT-L/14's text encoder with its text projection, for core's "Load CLIP" (247 MB)."""
    with configs(path.with_suffix(".configs"), "small") as folder:
        shapes = [
            (f"text_model.{name.removeprefix(TEXT)}", shape)
            for name, shape in checkpoint_shapes(folder)
            if name.startswith(TEXT)
        ]
    shapes.append(("text_projection.weight", (768, 768)))
    return _save(path, random_weights(iter(shapes), seed, torch.float32), torch.float16)


def write_sdxl(path: Path) -> Path:
    """What ComfyUI takes for an SDXL checkpoint, a few MB: to be refused by our nodes, not to be sampled.

    All but the tensors that tell the architecture is missing, and is memory as it was found once loaded.
    """
    shapes: list[tuple[str, tuple[int, ...]]] = [
        (f"{UNET}input_blocks.0.0.weight", (320, 4, 3, 3)),
        (f"{UNET}out.2.weight", (4, 320, 3, 3)),
        (f"{UNET}label_emb.0.0.weight", (1280, 2816)),
        ("conditioner.embedders.0.transformer.text_model.final_layer_norm.weight", (768,)),
    ]
    shapes += [(f"{VAE}taesd_{name}", shape) for name, shape in _tiny_vae()]
    shapes += [(f"{UNET}output_blocks.{i}.0.in_layers.0.weight", (640,)) for i in range(9)]
    index = 1
    for level, depth in enumerate((0, 2, 10)):
        for _ in range(2):
            block = f"{UNET}input_blocks.{index}"
            shapes.append((f"{block}.0.in_layers.0.weight", (320,)))
            shapes.append((f"{block}.0.out_layers.3.weight", (320, 320, 3, 3)))
            if depth:
                shapes.append((f"{block}.1.proj_in.weight", (320, 320)))
                shapes.append((f"{block}.1.transformer_blocks.0.attn2.to_k.weight", (320, 2048)))
                shapes += [(f"{block}.1.transformer_blocks.{i}.norm1.weight", (320,)) for i in range(depth)]
            index += 1
        if level < 2:
            shapes.append((f"{UNET}input_blocks.{index}.0.op.weight", (320, 320, 3, 3)))
            index += 1
    return _save(path, random_weights(iter(shapes), 4, torch.float32), torch.float16)


@contextmanager
def configs(folder: Path, unet: str) -> Iterator[Path]:
    """Within the block, a folder with configurations of a checkpoint whose U-Net has these sizes."""
    widths, blocks, attends = UNETS[unet]
    shutil.copytree(SD15_CONFIGS, folder)
    path = folder / "unet" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["block_out_channels"], config["layers_per_block"] = list(widths), blocks
    config["down_block_types"] = ["CrossAttnDownBlock2D" if level else "DownBlock2D" for level in attends]
    path.write_text(json.dumps(config), encoding="utf-8")
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _louder(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Cross-attention that looks at single words, and is heard; an autoencoder that uses the whole scale.

    Else all prompts give much the same picture, and all pictures are nearly black.
    """
    for name, tensor in weights.items():
        if "attn2.to_q" in name or "attn2.to_k" in name:
            tensor *= 3
        elif "attn2.to_v" in name or "attn2.to_out.0.weight" in name or _between_blocks(name):
            tensor *= 2
        elif name.endswith("decoder.19.bias"):
            tensor += 0.5  # the middle of 0 .. 1
    if any("taesd" in name for name in weights):
        weights |= {f"{VAE}vae_scale": torch.tensor(1.0), f"{VAE}vae_shift": torch.tensor(0.0)}
    return weights


def _between_blocks(name: str) -> bool:
    """Whether these are the weights of a convolution of TAESD that no residual path goes around."""
    return "taesd" in name and name.endswith(".weight") and ".conv." not in name


def _save(path: Path, weights: dict[str, Tensor], dtype: torch.dtype) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.to(dtype).contiguous() for name, tensor in weights.items()}, str(path))
    return path


def _tiny_vae() -> Named:
    """TAESD: blocks of three convolutions, numbered as its two sequences are."""
    yield from _conv("encoder.0", 3, 64, 3)
    yield from _tiny_block("encoder.1")
    for start in (2, 6, 10):  # a step down, then three blocks
        yield f"encoder.{start}.weight", (64, 64, 3, 3)
        for index in range(start + 1, start + 4):
            yield from _tiny_block(f"encoder.{index}")
    yield from _conv("encoder.14", 64, 4, 3)
    yield from _conv("decoder.1", 4, 64, 3)
    for start in (3, 8, 13):  # three blocks, an upsampling without weights, a convolution
        for index in range(start, start + 3):
            yield from _tiny_block(f"decoder.{index}")
        yield f"decoder.{start + 4}.weight", (64, 64, 3, 3)
    yield from _tiny_block("decoder.18")
    yield from _conv("decoder.19", 64, 3, 3)


def _tiny_block(name: str) -> Named:
    for index in (0, 2, 4):
        yield from _conv(f"{name}.conv.{index}", 64, 64, 3)


def _clip_layer(name: str, width: int, hidden: int) -> Named:
    for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
        yield from _linear(f"{name}.self_attn.{part}", width, width)
    yield from _norm(f"{name}.layer_norm1", width)
    yield from _linear(f"{name}.mlp.fc1", width, hidden)
    yield from _linear(f"{name}.mlp.fc2", hidden, width)
    yield from _norm(f"{name}.layer_norm2", width)


def _conv(name: str, inputs: int, outputs: int, kernel: int) -> Named:
    yield f"{name}.weight", (outputs, inputs, kernel, kernel)
    yield f"{name}.bias", (outputs,)


def _linear(name: str, inputs: int, outputs: int) -> Named:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _norm(name: str, width: int) -> Named:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)
