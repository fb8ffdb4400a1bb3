"""The stages of the toy base's pretraining: autoencoder, CLIP, U-Net, story recogniser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from .architecture import MAX_TOKENS
from .resumable import Schedule, fit

Log = Callable[[str], None]

NAMED_SHARE = 0.5
"""Share of a U-Net batch that is drawn from captions with an emotion's name: few names must reach many."""


def draw_rows(count: int, batch: int, seed: int, step: int) -> np.ndarray:
    """The samples of a step: a permutation of the corpus per epoch, a function of seed and step alone."""
    per_epoch = count // batch
    epoch, position = divmod(step, per_epoch)
    order = np.random.default_rng((seed, epoch)).permutation(count)
    return np.sort(order[position * batch : (position + 1) * batch])


def as_pixels(pictures: np.ndarray) -> Tensor:
    """[n, 64, 64, 3] uint8 to [n, 3, 64, 64] in -1..1."""
    pixels = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return pixels.contiguous(memory_format=torch.channels_last)


def train_autoencoder(
    vae: AutoencoderKL, pictures: np.ndarray, steps: int, seed: int, checkpoint: Path, log: Log
) -> None:
    """Absolute and squared error, also of edges, and a slight pull of the latents to a unit Gaussian."""
    vae.to(memory_format=torch.channels_last)

    def loss_of(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        pixels = as_pixels(pictures[draw_rows(len(pictures), 32, seed, step)])
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(pixels).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=generator)
            decoded = vae.decode(posterior.mean + posterior.std * noise).sample
        error = decoded.float() - pixels
        edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
        return error.abs().mean() + error.square().mean() + edges + 2e-6 * posterior.kl().float().mean()

    fit("autoencoder", vae, loss_of, Schedule(steps, 2e-3), checkpoint, log)


def train_clip(
    clip: CLIPModel,
    tokenizer: CLIPTokenizer,
    pictures: np.ndarray,
    captions: list[str],
    steps: int,
    seed: int,
    checkpoint: Path,
    log: Log,
) -> None:
    """CLIP's own symmetric contrastive loss; captions that only name an emotion are left to the U-Net."""
    rows = np.array([i for i, caption in enumerate(captions) if len(caption.split()) > 4])
    ids = tokenize(tokenizer, captions)
    batch = 224

    def loss_of(step: int) -> Tensor:
        chosen = rows[draw_rows(len(rows), batch, seed + 1, step)]
        pixels = as_pixels(pictures[chosen]) * 2  # mean 0.5, deviation 0.25: what the image processor does
        text, mask = ids[chosen], _until_end(ids[chosen], tokenizer.eos_token_id)
        output = clip(input_ids=text, attention_mask=mask, pixel_values=pixels.contiguous())
        logits, target = output.logits_per_image, torch.arange(batch)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    fit("clip", clip, loss_of, Schedule(steps, 1.5e-3), checkpoint, log)


def teach_names(
    clip: CLIPModel,
    tokenizer: CLIPTokenizer,
    pictures: np.ndarray,
    captions: list[str],
    names: Sequence[str],
    steps: int,
    seed: int,
    log: Log,
) -> None:
    """Give the names' word embeddings, and nothing else of CLIP, the meaning of the pictures they name.

    The captions that only name are too alike for the contrastive stage, which leaves them out. A row moves so
    that "an image of awe" lies near the pictures it captions; no other sentence changes by a bit.
    """
    rows = np.array([i for i, caption in enumerate(captions) if len(caption.split()) <= 4])[:4000]
    text, words = tokenize(tokenizer, [captions[i] for i in rows]), clip.text_model.get_input_embeddings()
    taught = torch.tensor(tokenizer.convert_tokens_to_ids([f"{name}</w>" for name in names]))
    with torch.no_grad():
        parts = [as_pixels(pictures[chunk]) * 2 for chunk in np.array_split(rows, 40)]
        embeds = [clip.visual_projection(clip.vision_model(pixel_values=p).pooler_output) for p in parts]
        images = F.normalize(torch.cat(embeds), dim=1)
    clip.requires_grad_(False)
    words.weight.requires_grad_(True)
    keep = torch.ones(len(words.weight), 1).index_fill_(0, taught, 0)
    start, optimizer = words.weight.detach().clone(), torch.optim.Adam([words.weight], lr=3e-3)
    for step in range(steps):
        chosen = draw_rows(len(rows), 200, seed + 4, step)
        states = clip.text_model(input_ids=text[chosen])
        texts = F.normalize(clip.text_projection(states.pooler_output), dim=1)
        similarity = 5 * texts @ images[chosen].T
        loss = F.cross_entropy(similarity, torch.arange(len(chosen)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            words.weight.copy_(torch.where(keep.bool(), start, words.weight))
        if (step + 1) % 50 == 0:
            log(f"names: step {step + 1}/{steps}, loss {loss.item():.3f}")


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    settings = {"padding": "max_length", "truncation": True, "max_length": MAX_TOKENS, "return_tensors": "pt"}
    return tokenizer(captions, **settings).input_ids


def _until_end(ids: Tensor, end: int) -> Tensor:
    """1 up to and with the first end token. (Causal attention and pooling at the end make the padding
    irrelevant.)
    """
    return ((ids == end).cumsum(dim=1) <= 1).long()


@torch.no_grad()
def encode_pictures(vae: AutoencoderKL, pictures: np.ndarray, batch: int = 200) -> tuple[Tensor, Tensor]:
    """Means and deviations of all latents, half precision, [n, 8, 8, 8] each."""
    means, deviations = [], []
    for start in range(0, len(pictures), batch):
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(as_pixels(pictures[start : start + batch])).latent_dist
        means.append(posterior.mean.half())
        deviations.append(posterior.std.half())
    return torch.cat(means), torch.cat(deviations)


@torch.no_grad()
def encode_captions(text_encoder: torch.nn.Module, ids: Tensor, batch: int = 500) -> Tensor:
    """Hidden states of all captions, half precision, [n, MAX_TOKENS, width]."""
    states = [
        text_encoder(input_ids=ids[i : i + batch]).last_hidden_state.half() for i in range(0, len(ids), batch)
    ]
    return torch.cat(states)


def train_unet(
    unet: UNet2DConditionModel,
    schedule: DDPMScheduler,
    latents: tuple[Tensor, Tensor],
    states: Tensor,
    empty: Tensor,
    named: np.ndarray,
    steps: int,
    batch: int,
    seed: int,
    checkpoint: Path,
    log: Log,
) -> None:
    """Epsilon prediction, weighted by min(SNR, 5)/SNR (min-SNR); 10% of the captions dropped for guidance.

    latents: means and deviations, scaled to unit variance; states: [n, L, W]; empty: the empty prompt's,
        [L, W]; named: rows whose captions name an emotion.
    """
    unet.to(memory_format=torch.channels_last)
    means, deviations = latents
    signal = schedule.alphas_cumprod / (1 - schedule.alphas_cumprod)

    def loss_of(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        several = int(NAMED_SHARE * batch)
        names = named[draw_rows(len(named), several, seed + 3, step)]
        rows = torch.from_numpy(
            np.concatenate([draw_rows(len(means), batch - several, seed + 2, step), names])
        )
        shape = (batch, *means.shape[1:])
        clean = means[rows].float() + deviations[rows].float() * torch.randn(shape, generator=generator)
        noise = torch.randn(shape, generator=generator)
        timesteps = torch.randint(0, len(signal), (batch,), generator=generator)
        dropped = torch.rand(batch, generator=generator) < 0.1
        context = torch.where(dropped[:, None, None], empty, states[rows].float())
        noisy = schedule.add_noise(clean, noise, timesteps).contiguous(memory_format=torch.channels_last)
        predicted = unet(noisy, timesteps, context).sample
        weight = signal[timesteps].clamp(max=5) / signal[timesteps]
        return ((predicted - noise).square().mean(dim=(1, 2, 3)) * weight).mean()

    fit("unet", unet, loss_of, Schedule(steps, 1e-3), checkpoint, log, ema_decay=0.998)
