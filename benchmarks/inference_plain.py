"""What of inference needs no ComfyUI: HiLoRA beside a U-Net, opening an adapter, drawing embeddings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from coemogen_train.adapter.file import load_adapter
from coemogen_train.adapter.gaussians import EmotionGaussians
from coemogen_train.adapter.hilora import HiLoRA
from coemogen_train.emotions import MIKELS

from .models import Size, make_base
from .rounds import Rounds, Spread, interleave

_EMOTIONS = MIKELS.num_emotions


@torch.no_grad()
def sampling_rounds(size: Size, resolution: int, count: int, rounds: int, device: torch.device) -> Rounds:
    """Seconds of the U-Net's pass over `count` pictures, as a sampler calls it.

    merged: one emotion's update added to the weights, as a plain LoRA is by the stock loader.
    routed: HiLoRA beside the layers, the same emotion for all. mixed: another emotion for each picture.
    """
    base = make_base(size, device)
    hilora = HiLoRA.for_unet(base.unet, MIKELS.polarity_of, 4).to(device)
    generator = torch.Generator().manual_seed(0)
    for up in hilora.up.values():
        up.copy_(0.1 * torch.randn(up.shape, generator=generator))
    side = resolution // base.vae_factor
    latents = torch.randn(count, base.latent_channels, side, side, generator=generator).to(device)
    words = torch.randn(count, base.max_length, base.cross_attention_dim, generator=generator).to(device)
    timesteps = torch.full((count,), 500, device=device)
    one, each = torch.eye(_EMOTIONS)[[1]], torch.eye(_EMOTIONS)[torch.arange(count) % _EMOTIONS]
    attached = hilora.attach(base.unet)
    merged = {
        base.unet.get_submodule(layer): hilora.merged_delta(layer, hilora.gate(one.to(device))[0])
        for layer in hilora.layers
    }

    def run(emotion: torch.Tensor | None) -> Callable[[], object]:
        gate = None if emotion is None else hilora.gate(emotion.to(device))

        def call() -> object:
            attached.route(gate)
            return base.unet(latents, timesteps, encoder_hidden_states=words).sample

        return call

    _check_alike(run(one), run(None), merged)
    works = {"merged": run(None), "routed": run(one), "mixed": run(each)}
    return interleave(works, rounds, device)


def _check_alike(
    routed: Callable[[], object], bare: Callable[[], object], merged: dict[torch.nn.Module, torch.Tensor]
) -> None:
    """Merge, after it is proved that what is compared gives the same latents."""
    expected = routed()
    for layer, delta in merged.items():
        layer.weight.add_(delta)
    torch.testing.assert_close(bare(), expected, rtol=1e-2, atol=1e-2)


def load_rounds(path: Path, rounds: int) -> Spread:
    """Seconds to open and check an adapter; the first time, which finds the file cold, is not counted."""
    return interleave({"load": lambda: load_adapter(path)}, rounds).spread("load")


def draws(gaussians: EmotionGaussians, rounds: int) -> dict[str, Spread]:
    """Rows per second: of one emotion, with less spread, and of mixtures of two and of all emotions."""
    rows = torch.eye(_EMOTIONS)
    two = (rows + rows.roll(1, dims=0)) / 2
    every = torch.full_like(rows, 1 / _EMOTIONS)
    kinds: dict[str, tuple[torch.Tensor, int, float]] = {
        "1 row": (rows, 1, 1.0),
        "32 rows": (rows, 32, 1.0),
        "256 rows": (rows, 256, 1.0),
        "256 rows, truncation 0.5": (rows, 256, 0.5),
        "256 rows, mixtures of 2": (two, 256, 1.0),
        "256 rows, mixtures of 8": (every, 256, 1.0),
    }

    def work(name: str) -> Callable[[], object]:
        emotion, count, truncation = kinds[name]
        chosen = emotion[torch.arange(count) % _EMOTIONS]
        return lambda: gaussians.sample(chosen, 0, truncation)

    found = interleave({name: work(name) for name in kinds}, rounds)
    return {
        name: Spread.of([kinds[name][1] / seconds for seconds in found.seconds[name].values()])
        for name in kinds
    }
