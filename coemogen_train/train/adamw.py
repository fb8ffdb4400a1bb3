"""AdamW on the rows of a matrix, of which some stay as they are; which ones, the device alone knows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.adamw import adamw

# Where torch's fused kernel heeds `found_inf`; on other devices the arithmetic is written out.
_FUSED = ("cpu", "cuda")


@dataclass(frozen=True)
class Rows:
    """What AdamW reads and writes: matrices [R, width] of one dtype, and steps [R] float32, done so far."""

    weights: Tensor
    gradients: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    steps: Tensor


def update_rows(
    rows: Rows,
    active: Tensor,
    divisor: Tensor,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    fused: bool | None = None,
) -> None:
    """Do one step in place on each row where `active` holds, as if it had an AdamW of its own.

    The others keep weights, moments and step count bit for bit, whatever their gradients are.

    Arguments:
        active: [R] bool. divisor: float32 scalar by which the gradients are divided first.
        lr, betas, eps, weight_decay: as in `torch.optim.AdamW`.
        fused: by torch's own kernel; None: where the device has one that can leave a row alone.
    """
    if fused is None:
        fused = rows.weights.device.type in _FUSED
    update = _fused if fused else _plain
    update(rows, active, divisor, lr, betas, eps, weight_decay)


def _fused(
    rows: Rows,
    active: Tensor,
    divisor: Tensor,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """One call per row: where `found_inf` is 1 the kernel changes nothing and takes the step back."""
    idle = (~active).float()
    for row in range(len(idle)):
        adamw(
            [rows.weights[row]],
            [rows.gradients[row]],
            [rows.exp_avg[row]],
            [rows.exp_avg_sq[row]],
            [],
            [rows.steps[row]],
            fused=True,
            grad_scale=divisor,
            found_inf=idle[row],
            amsgrad=False,
            maximize=False,
            lr=lr,
            beta1=betas[0],
            beta2=betas[1],
            eps=eps,
            weight_decay=weight_decay,
        )


def _plain(
    rows: Rows,
    active: Tensor,
    divisor: Tensor,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """The same for all rows at once, each thing kept where its row is not active."""
    rows.steps.add_(active)
    steps = rows.steps[:, None].to(rows.weights)
    gradients = rows.gradients / divisor.to(rows.gradients)
    mean = torch.lerp(rows.exp_avg, gradients, 1 - betas[0])
    square = torch.addcmul(rows.exp_avg_sq * betas[1], gradients, gradients, value=1 - betas[1])
    denominator = (square / (1 - betas[1] ** steps)).sqrt() + eps
    step = lr / (1 - betas[0] ** steps) * (mean / denominator)
    weights = rows.weights * (1 - lr * weight_decay) - step
    for kept, new in ((rows.weights, weights), (rows.exp_avg, mean), (rows.exp_avg_sq, square)):
        kept.copy_(torch.where(active[:, None], new, kept))
