"""A base model in its parts, frozen: what CoEmoGen trains on and samples from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .declared import Declared

# (in_channels, cross_attention_dim, block_out_channels) -> the name by which people and ModelSpec know it.
_KNOWN_ARCHITECTURES: dict[tuple[int, int, tuple[int, ...]], str] = {
    (4, 768, (320, 640, 1280, 1280)): "stable-diffusion-v1",
    (4, 1024, (320, 640, 1280, 1280)): "stable-diffusion-v2",
}


@dataclass
class BaseModel:
    """A latent diffusion model whose U-Net listens to one CLIP text encoder.

    Attributes:
        unet: diffusers' UNet2DConditionModel.
        vae: diffusers' AutoencoderKL.
        text_encoder: transformers' CLIPTextModel or CLIPTextModelWithProjection.
        tokenizer: the CLIPTokenizer that belongs to it; its `model_max_length` is `max_length`.
        scheduler_config: the noise schedule, as diffusers' schedulers write it.
        name: what the user called it, without folders.
        architecture: see `architecture_of`.
        clip_skip: the text encoder's layer that is read, counted from the end: 1 is the last, 2 the one
            before it. The layers behind it are not there, the final layer norm is.
        declared: what the files say of themselves.
    """

    unet: Any = field(repr=False)
    vae: Any = field(repr=False)
    text_encoder: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    scheduler_config: dict[str, Any]
    name: str
    architecture: str
    clip_skip: int = 1
    declared: Declared = field(default_factory=Declared)
    _vae_fingerprint: str | None = field(default=None, repr=False)

    @property
    def device(self) -> torch.device:
        """Where the U-Net's weights are."""
        return next(self.unet.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the U-Net's weights."""
        return next(self.unet.parameters()).dtype

    @property
    def latent_channels(self) -> int:
        """Channels of a latent: 4 in Stable Diffusion 1.5."""
        return int(self.unet.config.in_channels)

    @property
    def vae_factor(self) -> int:
        """Pixels per latent, along one side: 8 in Stable Diffusion 1.5."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def max_length(self) -> int:
        """Tokens in a prompt, BOS and EOS included: 77 in Stable Diffusion 1.5."""
        return int(self.text_encoder.config.max_position_embeddings)

    @property
    def width(self) -> int:
        """Width of a token embedding: 768 in Stable Diffusion 1.5."""
        return int(self.text_encoder.config.hidden_size)

    @property
    def cross_attention_dim(self) -> int:
        """Width of the states that the U-Net listens to."""
        return int(self.unet.config.cross_attention_dim)

    @property
    def prediction_type(self) -> str:
        """What the U-Net predicts: "epsilon", "v_prediction" or "sample"."""
        return str(self.scheduler_config.get("prediction_type", "epsilon"))

    @property
    def zero_terminal_snr(self) -> bool:
        """Whether the noise schedule ends in pure noise."""
        return bool(self.scheduler_config.get("rescale_betas_zero_snr", False))

    @property
    def resolution(self) -> int:
        """Side of the square pictures the U-Net was trained on, in pixels: 512 in Stable Diffusion 1.5."""
        size = self.unet.config.sample_size
        return int(size if isinstance(size, int) else size[0]) * self.vae_factor

    @property
    def vae_fingerprint(self) -> str:
        """SHA-256 of the autoencoder's weights and scaling, as loaded: part of a latent cache's key."""
        if self._vae_fingerprint is None:
            scaling = {"scaling_factor": self._latent_scale, "shift_factor": self._latent_shift}
            self._vae_fingerprint = module_fingerprint(self.vae, scaling)
        return self._vae_fingerprint

    @torch.no_grad()
    def encode_latents(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior of the autoencoder, in the scale in which the U-Net works.

        Args:
            pixels: [B, 3, H, W], -1..1; H and W multiples of `vae_factor`.

        Returns:
            (mean, std), each [B, C, H / vae_factor, W / vae_factor]; a latent is mean + std * noise.
        """
        posterior = self.vae.encode(pixels.to(self.vae.device, self.vae.dtype)).latent_dist
        return (posterior.mean - self._latent_shift) * self._latent_scale, posterior.std * self._latent_scale

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in 0..1, float32, from scaled latents [B, C, h, w]."""
        latents = latents / self._latent_scale + self._latent_shift
        pixels = self.vae.decode(latents.to(self.vae.device, self.vae.dtype)).sample
        return (pixels.float() / 2 + 0.5).clamp(0, 1)

    def noise_schedule(self) -> Any:
        """diffusers' DDPMScheduler over this model's betas: `add_noise`, and what the U-Net predicts."""
        from diffusers import DDPMScheduler

        return DDPMScheduler.from_config(self.scheduler_config)

    @property
    def _latent_scale(self) -> float:
        return float(self.vae.config.scaling_factor)

    @property
    def _latent_shift(self) -> float:
        return float(getattr(self.vae.config, "shift_factor", None) or 0.0)


def architecture_of(unet_config: Mapping[str, Any]) -> str:
    """The name by which an adapter remembers its base: "stable-diffusion-v1", or one made of the widths."""
    channels = tuple(int(width) for width in unet_config["block_out_channels"])
    inputs, context = int(unet_config["in_channels"]), int(unet_config["cross_attention_dim"])
    known = _KNOWN_ARCHITECTURES.get((inputs, context, channels))
    return known or f"unet-{inputs}x{'-'.join(map(str, channels))}-context-{context}"


def keep_first_layers(text_encoder: Any, count: int) -> None:
    """Leave out what follows the first `count` layers of a CLIP text model; its final layer norm stays."""
    # Where the layers are changes from one version of transformers to the next.
    for module in list(text_encoder.modules()):
        if isinstance(getattr(module, "layers", None), nn.ModuleList):
            module.layers = module.layers[:count]
    text_encoder.config.num_hidden_layers = count


def freeze(module: nn.Module, device: torch.device | str, dtype: torch.dtype) -> Any:
    """Put a pretrained part where it is needed, in evaluation mode and without gradients of its own."""
    # nn.Module's own `to`: diffusers' warns of float32 parts that these models do not have.
    module = nn.Module.to(module, device=device, dtype=dtype)
    # Convolutions' own order of memory: 6% faster for a small U-Net on a CPU (measured).
    module = nn.Module.to(module, memory_format=torch.channels_last)
    return module.eval().requires_grad_(False)


def module_fingerprint(module: nn.Module, extra: Mapping[str, Any] | None = None) -> str:
    """SHA-256 (hex) over the names, shapes, types and bytes of a module's tensors, and over `extra`.

    The order of registration does not count, nor the device; the type does, since results depend on it.
    """
    digest = hashlib.sha256(repr(sorted((extra or {}).items())).encode("utf-8"))
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{list(tensor.shape)}{tensor.dtype}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(memoryview(flat.view(torch.uint8).numpy()))
    return digest.hexdigest()
