"""LoRA as it is usually trained, to be compared with: the manner of diffusers' example for text to image.

`PlainLoop` is what such a script does by default: in every step it decodes pictures and captions, encodes
both with the frozen encoders, and reads the loss. `CachedLoop` has both encoded before, and leaves the loss
where it is: what is left is the U-Net, LoRA and the optimiser.

In half precision both have LoRA in it, too, and no autocast around the U-Net: the frozen layers compute
exactly what they compute for all others. The example's LoRA in float32 under autocast takes longer.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.optimization import get_scheduler
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from coemogen_train.adapter.hilora import ATTENTION_TARGETS
from coemogen_train.base.model import BaseModel
from coemogen_train.train.batches import Batch

EXAMPLES_RANK = 4
LEARNING_RATE = 1e-4
MAX_NORM = 1.0
# As many processes decode pictures as a GPU needs to be kept busy; a CPU that trains has none to spare.
LOADERS_OF_A_GPU = 4


class PictureFolder(Dataset[dict[str, Tensor]]):
    """Pictures and captions, each read, mirrored by chance, normalised and tokenised when asked for.

    Gives pixels [3, H, W] float32 in -1..1, and input_ids [L] int64.
    """

    def __init__(self, files: list[Path], captions: list[str], tokenizer: Any, length: int) -> None:
        self.files, self.captions = files, captions
        self.tokenizer, self.length = tokenizer, length

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        with Image.open(self.files[index]) as picture:
            pixels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 127.5 - 1
        if torch.rand(()) < 0.5:
            pixels = pixels.flip(2)
        ids = self.tokenizer(
            self.captions[index],
            padding="max_length",
            truncation=True,
            max_length=self.length,
            return_tensors="pt",
        )
        return {"pixels": pixels, "input_ids": ids["input_ids"][0]}


class PlainLoop:
    """A step per call: pictures and captions in, LoRA moved, the loss read.

    Args:
        base: whose encoders, tokenizer and noise schedule are used.
        unet: the frozen U-Net; LoRA is put on it.
        files, captions: of the pictures, in the resolution of training.
        dtype: of the frozen parts and of LoRA. rank: of LoRA; the example's is 4.
    """

    def __init__(
        self,
        base: BaseModel,
        unet: Any,
        files: list[Path],
        captions: list[str],
        batch: int,
        dtype: torch.dtype = torch.float32,
        rank: int = EXAMPLES_RANK,
    ) -> None:
        self.unet, self.vae, self.schedule = unet, base.vae, base.noise_schedule()
        self.text_encoder = base.text_encoder
        if dtype != torch.float32:
            self.text_encoder = nn.Module.to(copy.deepcopy(base.text_encoder), dtype)
        self.device, self.dtype = base.device, dtype
        self.weights = add_lora(unet, rank)
        self.optimiser = torch.optim.AdamW(self.weights, lr=LEARNING_RATE, weight_decay=1e-2)
        self.rates = get_scheduler("constant", self.optimiser)
        pictures = PictureFolder(files, captions, base.tokenizer, base.max_length)
        workers = LOADERS_OF_A_GPU if self.device.type == "cuda" else 0
        self.loader = DataLoader(
            pictures, batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0
        )
        self.batches = self._endlessly()

    def step(self) -> float:
        """Do one optimiser step; gives the loss."""
        pictures = next(self.batches)
        with torch.no_grad():
            pixels = pictures["pixels"].to(self.device, self.vae.dtype)
            latents = self.vae.encode(pixels).latent_dist.sample() * self.vae.config.scaling_factor
            hidden = self.text_encoder(pictures["input_ids"].to(self.device))[0]
        noise = torch.randn_like(latents)
        steps = self.schedule.config.num_train_timesteps
        timesteps = torch.randint(steps, (len(latents),), device=self.device)
        loss = denoising_error(
            self.unet, self.schedule, latents.to(self.dtype), noise.to(self.dtype), timesteps, hidden
        )
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, MAX_NORM)
        self.optimiser.step()
        self.rates.step()
        self.optimiser.zero_grad()
        return float(loss.item())

    def _endlessly(self) -> Iterator[dict[str, Tensor]]:
        while True:
            yield from self.loader


class CachedLoop:
    """A step per call from what is encoded already: the U-Net with LoRA, and the optimiser.

    Args:
        unet: the frozen U-Net; LoRA is put on it.
        batch: latents, noise and timesteps. hidden: [B, L, W], the encoded captions.
    """

    def __init__(self, unet: Any, schedule: Any, batch: Batch, hidden: Tensor, rank: int) -> None:
        self.unet, self.schedule = unet, schedule
        dtype = next(unet.parameters()).dtype
        self.latents, self.noise, self.hidden = (
            tensor.to(dtype) for tensor in (batch.latents, batch.noise, hidden)
        )
        self.timesteps = batch.timesteps
        self.weights = add_lora(unet, rank)
        fused = batch.latents.device.type in ("cpu", "cuda")
        self.optimiser = torch.optim.AdamW(
            self.weights, lr=LEARNING_RATE, weight_decay=1e-2, fused=fused or None
        )

    def step(self) -> Tensor:
        """Do one optimiser step; gives the loss, which is not waited for."""
        loss = denoising_error(
            self.unet, self.schedule, self.latents, self.noise, self.timesteps, self.hidden
        )
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, MAX_NORM)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return loss.detach()


def add_lora(unet: Any, rank: int) -> list[nn.Parameter]:
    """Put peft's LoRA on the attention projections, in the U-Net's dtype; gives its weights."""
    from peft import LoraConfig

    dtype = next(unet.parameters()).dtype
    unet.add_adapter(
        LoraConfig(
            r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(ATTENTION_TARGETS)
        )
    )
    weights = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    for parameter in weights:
        parameter.data = parameter.data.to(dtype)
    return weights


def denoising_error(
    unet: Any, schedule: Any, latents: Tensor, noise: Tensor, timesteps: Tensor, hidden: Tensor
) -> Tensor:
    """The mean squared error of the predicted noise, a scalar in float32."""
    noisy = schedule.add_noise(latents, noise, timesteps)
    predicted = unet(noisy, timesteps, encoder_hidden_states=hidden.to(noisy.dtype)).sample
    return F.mse_loss(predicted.float(), noise.float())


def write_pictures(folder: Path, count: int, resolution: int, seed: int = 0) -> list[Path]:
    """Write JPEG files of soft colours, about as large as photographs of that size; gives their paths."""
    generator, files = np.random.default_rng(seed), []
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (max(2, resolution // 8),) * 2 + (3,), np.uint8))
        files.append(folder / f"{number:04d}.jpg")
        coarse.resize((resolution, resolution), Image.Resampling.BICUBIC).save(files[-1], quality=92)
    return files
