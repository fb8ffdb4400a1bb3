"""What of inference needs no ComfyUI: HiLoRA beside a U-Net, opening an adapter, drawing embeddings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from coemogen_train.adapter.file import load_adapter
from coemogen_train.adapter.gaussians import EmotionGaussians
from coemogen_train.adapter.hilora import HiLoRA
from coemogen_train.emotions import MIKELS

from ..measuring.models import Size, make_base
from ..measuring.rounds import Rounds, Spread, interleave
from ..measuring.twins import twin

_EMOTIONS = MIKELS.num_emotions


@torch.no_grad()
def sampling_rounds(size: Size, resolution: int, count: int, rounds: int, device: torch.device) -> Rounds:
    """Seconds of the U-Net's pass over `count` pictures, as a sampler calls it; float16 on a GPU, as ComfyUI
    samples Stable Diffusion 1.5 there.

    merged: one emotion's update added to the weights, as a plain LoRA is by the stock loader; nothing else is
    on that U-Net. routed: HiLoRA beside the layers, the same emotion for all. mixed: another emotion for each
    picture.
    """
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    base = make_base(size, device, dtype)
    hilora = HiLoRA.for_unet(base.unet, MIKELS.polarity_of, 4).to(device)
    generator = torch.Generator().manual_seed(0)
    for up in hilora.up.values():
        up.copy_(0.1 * torch.randn(up.shape, generator=generator))
    side = resolution // base.vae_factor
    latents = torch.randn(count, base.latent_channels, side, side, generator=generator).to(device, dtype)
    words = torch.randn(count, base.max_length, base.cross_attention_dim, generator=generator)
    words = words.to(device, dtype)
    timesteps = torch.full((count,), 500, device=device)
    one = hilora.gate(torch.eye(_EMOTIONS)[[1]].to(device))
    each = hilora.gate(torch.eye(_EMOTIONS)[torch.arange(count) % _EMOTIONS].to(device))
    merged = _merged(twin(base.unet), hilora, one[0])
    attached = hilora.to(dtype).attach(base.unet)

    def run(unet: nn.Module, gate: Tensor | None) -> Callable[[], Tensor]:
        def call() -> Tensor:
            attached.route(gate)
            return cast(Tensor, unet(latents, timesteps, encoder_hidden_states=words).sample)

        return call

    works = {"merged": run(merged, None), "routed": run(base.unet, one), "mixed": run(base.unet, each)}
    _check_alike(works["merged"](), works["routed"]())
    return interleave(works, rounds, device)


def _merged(unet: nn.Module, hilora: HiLoRA, gate: Tensor) -> nn.Module:
    """`unet` with the update of one routing in the weights; a twin's other weights stay the other's, too."""
    for name in hilora.layers:
        layer = cast(nn.Linear, unet.get_submodule(name))
        whole = layer.weight.float() + hilora.merged_delta(name, gate).float()
        layer.weight = nn.Parameter(whole.to(layer.weight), requires_grad=False)
    return unet


def _check_alike(merged: Tensor, routed: Tensor) -> None:
    """What is compared gives the same latents, but for rounding. Raises: RuntimeError otherwise."""
    apart = float((merged - routed).float().norm() / routed.float().norm())
    if not apart < (1e-3 if routed.dtype == torch.float32 else 5e-2):
        raise RuntimeError(f"merged is {apart:.1e} from routed: what would be timed is not the same work")


def load_rounds(path: Path, rounds: int) -> Spread:
    """Seconds to open and check an adapter; the first time, which finds the file cold, is not counted."""
    return interleave({"load": lambda: load_adapter(path)}, rounds).spread("load")


def draws(gaussians: EmotionGaussians, rounds: int) -> dict[str, Spread]:
    """Rows per second: of one emotion, with less spread, and of mixtures of two and of all emotions."""
    rows = torch.eye(_EMOTIONS)
    two = (rows + rows.roll(1, dims=0)) / 2
    every = torch.full_like(rows, 1 / _EMOTIONS)
    kinds: dict[str, tuple[Tensor, int, float]] = {
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
