"""A training loop that can be stopped at any moment and goes on where it was."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Schedule:
    """steps, peak learning rate, share of steps that warm up; then a cosine to a twentieth of the peak."""

    steps: int
    learning_rate: float
    warmup: float = 0.05

    def rate(self, step: int) -> float:
        warm = max(1, int(self.steps * self.warmup))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        progress = (step - warm) / max(1, self.steps - warm)
        return self.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))


def fit(
    name: str,
    model: nn.Module,
    loss_of: Callable[[int], Tensor],
    schedule: Schedule,
    checkpoint: Path,
    log: Callable[[str], None],
    ema_decay: float = 0.999,
    every: int = 200,
) -> None:
    """Train `model` on `loss_of(step)` with AdamW, and leave its averaged weights in it.

    loss_of: a function of the step number alone (it seeds itself), so that an interrupted run repeats
    nothing.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.learning_rate, weight_decay=0.01)
    average = {key: value.detach().clone() for key, value in model.state_dict().items()}
    start = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        average, start = saved["average"], saved["step"]
    began, running, summed = time.time(), 0.0, 0
    for step in range(start, schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        loss = loss_of(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        decay = min(ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for key, value in model.state_dict().items():
                if value.is_floating_point():
                    average[key].lerp_(value, 1 - decay)
        running, summed = running + loss.item(), summed + 1
        if (step + 1) % every == 0 or step + 1 == schedule.steps:
            seconds = time.time() - began
            log(f"{name}: step {step + 1}/{schedule.steps}, loss {running / summed:.4f}, {seconds:.0f} s")
            running, summed = 0.0, 0
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average,
                "step": step + 1,
            }
            torch.save(state, checkpoint.with_suffix(".partial"))
            os.replace(checkpoint.with_suffix(".partial"), checkpoint)
    model.load_state_dict(average)
    model.eval()
