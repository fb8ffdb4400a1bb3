"""What the parts of a comparison cost on this machine: timed where there are weights, else estimated.

A part is what is done once for a picture or a training sample. An estimate is what the part computes, moves
and calls, counted for Stable Diffusion 1.5 at 512 pixels, over what this machine does in half a second
(`train.speed`). Random weights would take the same time, but to make them takes longer than a plan should.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image

from ...base.load import load_base
from ...base.model import BaseModel
from ...base.vision import load_vision
from ...train.rehearsal import Rehearsal
from ...train.speed import measure_speed

PartName = Literal["step", "denoise", "encode", "decode", "clip", "look", "read"]
How = Literal["measured", "estimated"]

_COUNTED_AT = 512  # pixels
_CLIP, _INCEPTION, _ALEXNET, _RESNET50 = 162e9, 11.4e9, 7.4e9, 8.2e9

# FLOPs, bytes and calls of Stable Diffusion 1.5 as `train.rehearsal` counts them: 0.80 TFLOP forward, 1.12 to
# encode; a step is 1.71 of the U-Net, and the text encoder's passes beside. Of the networks that look at
# pictures twice their published multiply-adds, AlexNet at 512 pixels.
WORK: Mapping[PartName, Rehearsal] = {
    "step": Rehearsal(0, 1_851_000_000_000, 12_277_000_000, 6065),
    "denoise": Rehearsal(0, 803_000_000_000, 3_918_000_000, 1390),
    "encode": Rehearsal(0, 1_117_000_000_000, 7_043_000_000, 114),
    "decode": Rehearsal(0, 2_515_000_000_000, 11_786_000_000, 142),
    "clip": Rehearsal(0, round(_CLIP), 1_500_000_000, 400),
    "look": Rehearsal(0, round(_INCEPTION + 2 * _ALEXNET + 3 * _RESNET50), 1_000_000_000, 900),
}
"""step: a training sample, forward and backward. denoise: the U-Net once for one latent. encode, decode: the
VAE, a picture. clip: a picture's features. look: Inception, AlexNet on a pair, the two classifiers and the
second probe's backbone on a picture. (read, decoding a picture and resizing it, is always timed.)"""

_SPELL, _MOST = 1.0, 5  # seconds and times that a part is timed


@dataclass(frozen=True)
class PartTime:
    """Seconds that a part takes, and how that is known."""

    seconds: float
    how: How


@dataclass(frozen=True)
class Costs:
    """device: in words. flops: a second, of plain matrix products. parts: what each takes. cores: that decode
    pictures."""

    device: str
    flops: float
    parts: Mapping[PartName, PartTime]
    cores: int

    def seconds(self, **counts: float) -> float:
        """The time of so many of each part, one after another."""
        seconds: Mapping[str, float] = {name: part.seconds for name, part in self.parts.items()}
        return sum(seconds[name] * count for name, count in counts.items())

    def how(self, *names: PartName) -> How:
        """ "measured" where all of these are."""
        return "measured" if all(self.parts[name].how == "measured" for name in names) else "estimated"


def work_costs(
    device: torch.device,
    dtype: torch.dtype,
    resolution: int,
    together: int,
    base: str | None = None,
    vision: str | None = None,
) -> Costs:
    """Time or estimate every part.

    Arguments:
        dtype: of training and drawing; caching and measuring are float32. resolution: in pixels. together:
            pictures that are drawn at a time. base, vision: models whose weights are here; None: not here.
    """
    speed, exact = measure_speed(device, dtype), measure_speed(device, torch.float32)
    size = (resolution / _COUNTED_AT) ** 2
    seconds: dict[PartName, float] = {}
    for name, work in WORK.items():
        calls = work.calls / (2 * together) if name == "denoise" else work.calls
        of_base = name in ("step", "denoise", "encode", "decode")
        scaled = _scaled(work, size if of_base else 1.0, round(calls))
        seconds[name] = (speed if name in ("step", "denoise") else exact).seconds(scaled)
    parts = {name: PartTime(found, "estimated") for name, found in seconds.items()}
    timed = {"read": time_reading(resolution)}
    if base is not None:
        timed |= time_base(base, device, dtype, resolution, together)
    if vision is not None:
        timed |= time_clip(vision, device)
    parts |= {name: PartTime(found, "measured") for name, found in timed.items()}  # type: ignore[misc]
    return Costs(_device_name(device), speed.flops, parts, torch.get_num_threads())


def time_base(
    spec: str, device: torch.device, dtype: torch.dtype, resolution: int, together: int
) -> dict[str, float]:
    """Time the parts of a base model that is here; {} where its memory does not suffice.

    A step is a forward pass of one sample, and as much again as the counted work says.
    """
    base = load_base(spec, device, dtype)
    side, per_forward = resolution // base.vae_factor, WORK["step"].flops / WORK["denoise"].flops
    try:
        base.vae.float()
        latents = torch.zeros(1, int(base.unet.config["in_channels"]), side, side, device=device)
        pixels = torch.zeros(1, 3, resolution, resolution, device=device)
        return {
            "step": per_forward * _timed(lambda: _denoise(base, latents), device),
            "denoise": _timed(lambda: _denoise(base, latents.expand(2 * together, -1, -1, -1)), device)
            / (2 * together),
            "encode": _timed(lambda: base.vae.encode(pixels), device),
            "decode": _timed(lambda: base.vae.decode(latents), device),
        }
    except torch.cuda.OutOfMemoryError:
        return {}


def time_clip(spec: str, device: torch.device) -> dict[str, float]:
    """Time the features of a picture by a CLIP that is here."""
    clip, pictures = load_vision(spec, device), [_photograph(224)] * 8
    return {"clip": _timed(lambda: clip.encode_images(pictures), device) / len(pictures)}


def time_reading(side: int) -> float:
    """Time the decoding of a JPEG of `side` pixels and its resizing to what two networks read: one core."""
    buffer = io.BytesIO()
    _photograph(side).save(buffer, "JPEG", quality=90)

    def read() -> None:
        picture = Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")
        for smaller in (299, 224):
            picture.resize((smaller, smaller), Image.Resampling.BICUBIC)

    return _timed(read, torch.device("cpu"))


def _denoise(base: BaseModel, latents: torch.Tensor) -> None:
    hidden = torch.zeros(len(latents), base.max_length, base.width, device=base.device, dtype=base.dtype)
    times = torch.zeros(len(latents), device=base.device)
    base.unet(latents.to(base.dtype), times, encoder_hidden_states=hidden)


@torch.no_grad()
def _timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that `work` takes, the best of a few times after one that does not count."""
    work()
    best, begun = float("inf"), time.perf_counter()
    for _ in range(_MOST):
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        best = min(best, time.perf_counter() - start)
        if time.perf_counter() - begun > _SPELL:
            break
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _photograph(side: int) -> Image.Image:
    """A picture with about as much detail as a photograph has: smooth forms under a little grain."""
    rng = np.random.default_rng(0)
    forms = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    smooth = np.asarray(forms.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32)
    return Image.fromarray(np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8))


def _scaled(work: Rehearsal, size: float, calls: int) -> Rehearsal:
    return Rehearsal(0, round(work.flops * size), round(work.moved_bytes * size), calls)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"this machine's CPU, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type
