"""What the precisions are called, and a loss scale for fp16 that grows and backs off without a sync."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.amp.autocast_mode import is_autocast_available

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# torch.amp.GradScaler's own numbers, but for the start, which is lower so that a run does not open with
# skips.
_START = 2.0**14
_GROWTH, _BACKOFF, _INTERVAL = 2.0, 0.5, 2000


def dtype_of(precision: str) -> torch.dtype:
    """Give torch's type of the settings' "fp32", "bf16" or "fp16"."""
    return _DTYPES[precision]


def autocast(device_type: str, precision: str) -> AbstractContextManager[None]:
    """The context of a forward pass: half precision where the settings ask, weights stay float32."""
    dtype = dtype_of(precision)
    # Not asked where it is not wanted: it fails on a device that knows none, as MPS in older torch.
    return nullcontext() if dtype == torch.float32 else torch.autocast(device_type, dtype=dtype)


def without_autocast(device_type: str) -> AbstractContextManager[None]:
    """Within the block every product has the precision of what is multiplied."""
    on = is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)
    return torch.autocast(device_type, enabled=False) if on else nullcontext()


class LossScale:
    """A factor on the loss that keeps fp16 gradients from vanishing; always 1 when not `enabled`.

    After a step whose gradients overflowed it is halved, after 2000 good ones in a row doubled.
    `torch.amp.GradScaler` does the same, but asks the device before each optimiser step.
    """

    def __init__(self, enabled: bool, device: torch.device) -> None:
        self.enabled = enabled
        self.scale = torch.tensor(_START if enabled else 1.0, device=device)
        self._good_steps = torch.tensor(0.0, device=device)

    def update(self, overflowed: Tensor) -> None:
        """Learn whether a step had to be skipped; `overflowed`: scalar bool."""
        if not self.enabled:
            return
        good = torch.where(overflowed, torch.zeros_like(self._good_steps), self._good_steps + 1)
        grow = good >= _INTERVAL
        factor = torch.where(overflowed, _BACKOFF, torch.where(grow, _GROWTH, 1.0))
        self.scale = self.scale * factor
        self._good_steps = torch.where(grow, torch.zeros_like(good), good)

    def state_dict(self) -> dict[str, Tensor]:
        return {"scale": self.scale.clone(), "good_steps": self._good_steps.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.scale.copy_(state["scale"])
        self._good_steps.copy_(state["good_steps"])
