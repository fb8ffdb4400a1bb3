"""HiLoRA under one routing, as a plain LoRA that every Stable Diffusion program reads.

The names are kohya's, `lora_unet_<module path with underscores>.lora_down.weight`: ComfyUI's loaders accept
these, and refuse the names that diffusers writes for Stable Diffusion 1.5's attention.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .hilora import HiLoRA


def kohya_name(layer: str) -> str:
    """The LoRA's name of a layer at a module path of a diffusers U-Net."""
    return f"lora_unet_{layer.replace('.', '_')}"


def plain_lora(hilora: HiLoRA, gate_row: Tensor) -> dict[str, Tensor]:
    """The groups in use under `gate_row` [G * rank], concatenated along the rank, with their weights.

    Returns:
        per layer `.lora_down.weight` [r, in], `.lora_up.weight` [out, r] and `.alpha` = r, float32, with r
        the rank of one group times the groups in use: up @ down is `HiLoRA.merged_delta`. Alpha is stored
        since programs take another one where it is missing. Empty where nothing is in use.
    """
    used = gate_row.detach().float().cpu()
    columns = used.nonzero().flatten()
    lora: dict[str, Tensor] = {}
    for layer in hilora.layers if len(columns) else ():
        down, up = (matrix.detach().float().cpu() for matrix in hilora.matrices(layer))
        name = kohya_name(layer)
        lora[f"{name}.lora_down.weight"] = down[columns].contiguous()
        lora[f"{name}.lora_up.weight"] = (up[:, columns] * used[columns]).contiguous()
        lora[f"{name}.alpha"] = torch.tensor(float(len(columns)))
    return lora
