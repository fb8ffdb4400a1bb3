"""From noise to pictures: classifier-free guidance over any of diffusers' schedulers, with HiLoRA per row."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from ..adapter.hilora import AttachedHiLoRA
from ..errors import UserError
from .model import BaseModel

# Short name -> (class in diffusers, what it is told beside the base model's own schedule).
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "dpm2": ("KDPM2DiscreteScheduler", {}),
    "dpm2_a": ("KDPM2AncestralDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "pndm": ("PNDMScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}

# Start noise draws from a stream apart: an embedding drawn from the same seed must not share its numbers.
# Half of 2^32, since torch's generator on the CPU looks at no more than the lower 32 bits of a seed.
_NOISE_STREAM = 2**31
_SEEDS = 2**64

Progress = Callable[[int, int], None]
Window = tuple[float, float]
"""(start, end): a stretch of the denoising, from 0, pure noise, to 1, the picture. A step is in it where its
middle is, so that stretches side by side share no step. With start > end the rest of the denoising is meant:
all but the stretch from end to start.
"""
ALWAYS: Window = (0.0, 1.0)


@dataclass(frozen=True)
class SamplingSettings:
    """How pictures are drawn.

    Attributes:
        steps: steps of the scheduler.
        guidance: s in uncond + s (cond - uncond); 1 is no guidance, at half the cost.
        scheduler: a name of `SCHEDULERS`, or of a scheduler class in diffusers.
        hilora_branches: where HiLoRA acts: "both" branches of the guidance, or the "conditional" one only.
        batch_size: pictures at a time; the pictures do not depend on it (to 1e-5 of a latent).
        height, width: pixels, multiples of the base's `vae_factor`; None: the base's own resolution.
        condition_window: when the U-Net listens to the condition; else both branches get the neutral one.
        hilora_window: when HiLoRA acts; else the U-Net is the bare one.

    Raises:
        UserError: a value that cannot be.
    """

    steps: int = 50
    guidance: float = 7.5
    scheduler: str = "ddim"
    hilora_branches: Literal["both", "conditional"] = "both"
    batch_size: int = 8
    height: int | None = None
    width: int | None = None
    condition_window: Window = ALWAYS
    hilora_window: Window = ALWAYS

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise UserError(f"steps ({self.steps}) and batch size ({self.batch_size}) must be at least 1.")
        if self.hilora_branches not in ("both", "conditional"):
            raise UserError(f"hilora_branches is 'both' or 'conditional', not '{self.hilora_branches}'.")
        for window in (self.condition_window, self.hilora_window):
            if not all(0 <= end <= 1 for end in window):
                raise UserError(
                    f"a window lies between 0, pure noise, and 1, the picture, unlike {tuple(window)}."
                )


def noise_seeds(seed: int, count: int) -> list[int]:
    """The start noises' seeds for `count` pictures of `seed`: seed + i, in a stream of their own."""
    return [(seed + i + _NOISE_STREAM) % _SEEDS for i in range(count)]


def in_window(window: Window, place: float) -> bool:
    """Whether `place`, 0 to 1, lies in a window."""
    start, end = window
    return start <= place < end if start <= end else not end <= place < start


def make_scheduler(name: str, scheduler_config: dict[str, Any]) -> Any:
    """A fresh diffusers scheduler over a base model's noise schedule.

    Raises:
        UserError: there is no scheduler of that name, or it cannot follow that schedule.
    """
    import diffusers

    class_name, options = SCHEDULERS.get(name.lower(), (name, {}))
    scheduler_class = getattr(diffusers, class_name, None) if class_name.endswith("Scheduler") else None
    if scheduler_class is None:
        near = difflib.get_close_matches(name.lower(), SCHEDULERS, n=3) or list(SCHEDULERS)
        raise UserError(
            f"there is no scheduler '{name}': take {', '.join(near)}, or a class name of diffusers."
        )
    # Those that do not know the setting would pass over it, and draw pictures that are too grey.
    known = inspect.signature(scheduler_class.__init__).parameters
    if scheduler_config.get("rescale_betas_zero_snr") and "rescale_betas_zero_snr" not in known:
        raise UserError(
            f"the scheduler '{name}' cannot follow a noise schedule that ends in pure noise, as this base's "
            "does: take ddim, ddpm, dpmpp_2m, euler, euler_a or unipc."
        )
    # Some schedulers clip to -1..1 unless told otherwise, which is meant for pixels: latents go beyond.
    return scheduler_class.from_config({"clip_sample": False, **scheduler_config}, **options)


def generate_images(
    base: BaseModel,
    prompt_embeds: Tensor,
    negative_embeds: Tensor,
    seeds: Sequence[int],
    settings: SamplingSettings,
    gates: Tensor | None = None,
    hilora: AttachedHiLoRA | None = None,
    progress: Progress | None = None,
    neutral_embeds: Tensor | None = None,
) -> list[Image.Image]:
    """Draw one picture per row of `prompt_embeds`; arguments as in `sample_latents`.

    Raises:
        UserError: see `sample_latents`.
    """
    latents = sample_latents(
        base, prompt_embeds, negative_embeds, seeds, settings, gates, hilora, progress, neutral_embeds
    )
    images: list[Image.Image] = []
    for start in range(0, len(latents), settings.batch_size):
        images += to_images(base.decode_latents(latents[start : start + settings.batch_size]))
    return images


@torch.no_grad()
def sample_latents(
    base: BaseModel,
    prompt_embeds: Tensor,
    negative_embeds: Tensor,
    seeds: Sequence[int],
    settings: SamplingSettings,
    gates: Tensor | None = None,
    hilora: AttachedHiLoRA | None = None,
    progress: Progress | None = None,
    neutral_embeds: Tensor | None = None,
) -> Tensor:
    """Denoise, from each picture's own noise, under classifier-free guidance.

    Args:
        prompt_embeds: [n, L, W].
        negative_embeds: [1, L, W] or [n, L, W], what guidance leads away from; usually the empty prompt.
        seeds: n seeds; all of a picture's noise, an ancestral sampler's too, is its own CPU generator's.
        gates: [n, G * rank] from `HiLoRA.gate`, one routing per picture; None: the bare base.
        hilora: what `HiLoRA.attach(base.unet)` returned; needed where there are gates.
        progress: called after each step with (steps done, steps in all), over all batches.
        neutral_embeds: [1, L, W] or [n, L, W], what the conditional branch gets outside the condition's
            window; None: the negative ones, so that there is nothing to guide towards.

    Returns:
        [n, C, h, w], float32 on the CPU, in the scale in which the U-Net works.

    Raises:
        UserError: an unknown scheduler, a size that does not fit, or a result that is not finite.
    """
    count = len(seeds)
    if len(prompt_embeds) != count or len(negative_embeds) not in (1, count):
        raise ValueError(
            f"{count} seeds, but {len(prompt_embeds)} prompts and {len(negative_embeds)} negatives"
        )
    if gates is not None and (hilora is None or len(gates) != count):
        raise ValueError("gates need an attached HiLoRA and one row per picture")
    shape = _latent_shape(base, settings)
    negative_embeds = negative_embeds.expand(count, -1, -1)
    neutral = negative_embeds if neutral_embeds is None else neutral_embeds.expand(count, -1, -1)
    batches = range(0, count, settings.batch_size)
    done = []
    try:
        for index, start in enumerate(batches):
            rows = slice(start, start + settings.batch_size)
            step = _batch_progress(progress, index, len(batches))
            gate = None if gates is None else gates[rows]
            batch = prompt_embeds[rows], negative_embeds[rows], neutral[rows], seeds[rows]
            done.append(_denoise(base, *batch, shape, settings, gate, hilora, step))
    finally:
        if hilora is not None:
            hilora.route(None)
    latents = torch.cat(done) if done else torch.empty(0, *shape)
    if not latents.isfinite().all():
        raise UserError(
            f"{base.name}: sampling gave values that are no numbers: use float32, a lower guidance, or get "
            "the model's files anew."
        )
    return latents


def to_images(pixels: Tensor) -> list[Image.Image]:
    """Pillow pictures, RGB with 8 bits, from pixels [B, 3, H, W] in 0..1."""
    values = (pixels * 255).round().to("cpu", torch.uint8).permute(0, 2, 3, 1).contiguous()
    size = (values.shape[2], values.shape[1])
    return [Image.frombytes("RGB", size, picture.numpy().tobytes()) for picture in values]


def _denoise(
    base: BaseModel,
    prompt_embeds: Tensor,
    negative_embeds: Tensor,
    neutral_embeds: Tensor,
    seeds: Sequence[int],
    shape: tuple[int, int, int],
    settings: SamplingSettings,
    gates: Tensor | None,
    hilora: AttachedHiLoRA | None,
    progress: Progress | None,
) -> Tensor:
    """One batch, from noise to latents [b, *shape]."""
    guided = settings.guidance != 1
    contexts = [
        (torch.cat([negative_embeds, embeds]) if guided else embeds).to(base.device, base.dtype)
        for embeds in (neutral_embeds, prompt_embeds)
    ]
    branch_gates = _branch_gates(gates, guided, settings, base.device)

    scheduler = make_scheduler(settings.scheduler, base.scheduler_config)
    try:
        scheduler.set_timesteps(settings.steps, device=base.device)
    except (ValueError, IndexError) as error:
        raise UserError(
            f"the scheduler '{settings.scheduler}' cannot do {settings.steps} steps: {error}"
        ) from error
    generators = [torch.Generator().manual_seed(int(seed) % _SEEDS) for seed in seeds]
    extra = {"generator": generators} if "generator" in inspect.signature(scheduler.step).parameters else {}
    noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    # float32 whatever the weights are: steps add up, and small ones are lost in half precision.
    latents = noise.to(base.device) * scheduler.init_noise_sigma
    for done, timestep in enumerate(scheduler.timesteps, start=1):
        place = (done - 0.5) / len(scheduler.timesteps)
        context = contexts[in_window(settings.condition_window, place)]
        if hilora is not None:
            hilora.route(branch_gates if in_window(settings.hilora_window, place) else None)
        scaled = scheduler.scale_model_input(latents, timestep)
        inputs = torch.cat([scaled, scaled]) if guided else scaled
        predicted = base.unet(inputs.to(base.dtype), timestep, encoder_hidden_states=context).sample.float()
        if guided:
            unconditional, conditional = predicted.chunk(2)
            predicted = unconditional + settings.guidance * (conditional - unconditional)
        try:
            latents = scheduler.step(predicted, timestep, latents, **extra).prev_sample
        except (NotImplementedError, ValueError) as error:  # some do not know a base that predicts the sample
            raise UserError(
                f"the scheduler '{settings.scheduler}' does not suit {base.name}: {error}"
            ) from error
        if progress is not None:
            progress(done, len(scheduler.timesteps))
    return latents.float().cpu()


def _branch_gates(
    gates: Tensor | None, guided: bool, settings: SamplingSettings, device: torch.device
) -> Tensor | None:
    """Gates for the rows of a pass: unconditional ones first, as in its context."""
    if gates is None or not guided:
        return None if gates is None else gates.to(device)
    unconditional = gates if settings.hilora_branches == "both" else torch.zeros_like(gates)
    return torch.cat([unconditional, gates]).to(device)


def _latent_shape(base: BaseModel, settings: SamplingSettings) -> tuple[int, int, int]:
    factor = base.vae_factor
    height, width = (settings.height or base.resolution), (settings.width or base.resolution)
    if height % factor or width % factor or min(height, width) < factor:
        raise UserError(
            f"{height} x {width} pixels: height and width must be multiples of {factor} for {base.name}."
        )
    return base.latent_channels, height // factor, width // factor


def _batch_progress(progress: Progress | None, index: int, batches: int) -> Progress | None:
    """`progress` of one batch, told as part of all; batches are taken to be equally long."""
    if progress is None:
        return None
    return lambda done, steps: progress(index * steps + done, batches * steps)
