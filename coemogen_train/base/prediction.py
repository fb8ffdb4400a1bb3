"""What a U-Net predicts, told by its errors: files often do not say it, and pictures show it too late."""

from __future__ import annotations

import torch
from torch import Tensor

from .generate import encode_prompts
from .model import BaseModel

# Shares of the picture in a noised latent at which the candidates differ most: with less of it a U-Net that
# predicts v knows little, with more of it v is nearly the noise.
_SIGNAL_SHARES = (0.3, 0.5, 0.7)
_CLEARLY_LOWER = 2.0
# Share of its target that a U-Net must have understood before its errors say anything.
_UNDERSTOOD = 0.5


@torch.no_grad()
def measured_prediction_type(base: BaseModel, latents: Tensor) -> str | None:
    """Run the U-Net on noised pictures under the empty prompt, and see whose errors its answers have.

    Each latent is noised once, in turn to a signal share alphas_cumprod of about 0.3, 0.5 and 0.7; at least
    three passes of one latent are made. The errors |answer - target|^2 are summed over them and divided by
    the sum of |target|^2, for the noise, for v = sqrt(a) noise - sqrt(1 - a) latent, and for the latent.

    Args:
        latents: [n, C, h, w], n >= 1, of pictures, in the scale in which the U-Net works.

    Returns:
        "epsilon", "v_prediction" or "sample": the one whose error is below half of what knowing nothing
        gives, and below half of the next one's; None where there is no such one, as with random weights.
        The same for the same weights and latents; the global random state is neither read nor changed.
    """
    alphas_cumprod = base.noise_schedule().alphas_cumprod.float()
    context = encode_prompts(base, [""]).to(base.device, base.dtype)
    generator = torch.Generator().manual_seed(0)
    errors = dict.fromkeys(("epsilon", "v_prediction", "sample"), 0.0)
    sizes = dict(errors)
    for index in range(max(len(latents), len(_SIGNAL_SHARES))):
        share = _SIGNAL_SHARES[index % len(_SIGNAL_SHARES)]
        timestep = (alphas_cumprod - share).abs().argmin()
        signal, noisy = alphas_cumprod[timestep].sqrt(), (1 - alphas_cumprod[timestep]).sqrt()
        latent = latents[index % len(latents)][None].float().cpu()
        noise = torch.randn(latent.shape, generator=generator)
        noised = (signal * latent + noisy * noise).to(base.device, base.dtype)
        answer = (
            base.unet(noised, timestep.to(base.device), encoder_hidden_states=context).sample.float().cpu()
        )
        targets = {"epsilon": noise, "v_prediction": signal * noise - noisy * latent, "sample": latent}
        for kind, target in targets.items():
            errors[kind] += float((answer - target).square().sum())
            sizes[kind] += float(target.square().sum())
    relative = sorted((errors[kind] / max(sizes[kind], 1e-12), kind) for kind in errors)
    (lowest, kind), (next_one, _) = relative[:2]
    # An answer that is no number is below nothing.
    clear = lowest < _UNDERSTOOD and next_one >= _CLEARLY_LOWER * lowest
    return kind if clear else None
