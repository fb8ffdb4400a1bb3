"""AdamW for stacked LoRAs: each group behaves as if it had an optimiser of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .adamw import Rows, update_rows


def learning_rate_at(
    step: int, learning_rate: float, warmup_steps: int, schedule: str = "constant", steps: int = 0
) -> float:
    """Give the rate of optimiser step `step` (0 is the first): linear warm-up, then constant or cosine.

    A pure function of the optimiser step, so neither accumulation, nor the number of processes, nor a resumed
    run can shift the schedule. "cosine" falls from the end of the warm-up to nearly 0 at the last of `steps`.
    """
    rate = learning_rate * min(1.0, (step + 1) / (warmup_steps + 1))
    if schedule == "constant" or step <= warmup_steps:
        return rate
    return rate * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps))) / 2


class _Bank:
    """Parameters of one layout, seen as one matrix with a row per group.

    A parameter that is stacked along `group_dim` in blocks of `rank` rows (or columns) contributes the block
    of group g to row g. Ordinary parameters form a bank with a single row. So a step is one call of torch's
    fused AdamW per group, however many layers there are.
    """

    def __init__(self, named: list[tuple[str, nn.Parameter]], groups: int, averaged: bool) -> None:
        self.names = [name for name, _ in named]
        self.parameters = [parameter for _, parameter in named]
        self.groups = groups
        like = self.parameters[0]
        width = sum(parameter.numel() for parameter in self.parameters) // groups
        self.exp_avg = torch.zeros(groups, width, dtype=like.dtype, device=like.device)
        self.exp_avg_sq = torch.zeros_like(self.exp_avg)
        self.steps = torch.zeros(groups, dtype=torch.float32, device=like.device)
        self._gradients: Tensor | None = None
        weights = (parameter.detach() for parameter in self.parameters)
        self.average = self.gather(weights) if averaged else None
        self.mask: Tensor | None = None
        if any(hasattr(parameter, "trainable_mask") for parameter in self.parameters):
            self.mask = self.gather(_mask_of(parameter) for parameter in self.parameters) != 0

    def _rows(self, parameter: nn.Parameter, tensor: Tensor) -> Tensor:
        """View `tensor`, shaped like `parameter`, with the groups first: [groups, ...]."""
        if not hasattr(parameter, "hilora_group_dim"):
            return tensor.unsqueeze(0)
        dim = int(parameter.hilora_group_dim)
        return tensor.unflatten(dim, (self.groups, -1)).movedim(dim, 0)

    def gather(self, tensors: Iterable[Tensor]) -> Tensor:
        """Copy one tensor per parameter into a new matrix [groups, width]."""
        matrix = torch.empty_like(self.exp_avg)
        pieces, rows = self._paired(matrix, tensors)
        torch._foreach_copy_(pieces, rows)
        return matrix

    def scatter(self, matrix: Tensor, into: Iterable[Tensor]) -> None:
        """Copy a matrix [groups, width] back into one tensor per parameter."""
        pieces, rows = self._paired(matrix, into)
        torch._foreach_copy_(rows, pieces)

    def _paired(self, matrix: Tensor, tensors: Iterable[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Views of `matrix` and of one tensor per parameter, [groups, ...] each, that hold the same."""
        pairs = zip(self.parameters, tensors, strict=True)
        rows = [self._rows(parameter, tensor) for parameter, tensor in pairs]
        pieces = matrix.split([row[0].numel() for row in rows], dim=1)
        return [piece.view(row.shape) for piece, row in zip(pieces, rows, strict=True)], rows

    def matrices(self) -> list[tuple[str, Tensor]]:
        """List what is kept of every weight, by its name in a checkpoint."""
        kept = [("exp_avg", self.exp_avg), ("exp_avg_sq", self.exp_avg_sq)]
        return kept if self.average is None else [*kept, ("ema", self.average)]

    def gradients(self) -> Tensor:
        """Give the gradients [groups, width], and take them off the parameters when first asked."""
        if self._gradients is None:
            self._gradients = self.gather(
                torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                for parameter in self.parameters
            )
            self._free()
        return self._gradients

    def forget_gradients(self) -> None:
        """Free them, wherever they are."""
        self._gradients = None
        self._free()

    def _free(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None


class GroupedAdamW:
    """AdamW (decoupled weight decay) in which every HiLoRA group has its own moments and its own step count.

    A group that no sample of the effective batch was routed to keeps its weights, moments and step count bit
    for bit. Stock AdamW on a stacked parameter is wrong twice there: it decays absent groups and moves them
    by old momentum, and a group first seen late shares the old step count, so that its first update is
    several times too large.

    Stacked parameters are recognised by their attributes `hilora_group_dim` (0 or 1, the axis along which
    groups are stacked) and `hilora_rank` (rows or columns per group); all others get ordinary AdamW. A
    parameter with a `trainable_mask` (bool, of its shape) keeps its elements bit for bit where that is False.

    Arguments:
        named_parameters: (name, parameter) pairs; parameters without requires_grad are passed over.
        learning_rate, betas, eps, weight_decay: as in `torch.optim.AdamW`; `learning_rate` may be set at any
            time.
        ema_decay: of the averaged weights; 0 keeps none. A group's average moves with the group's own steps,
            by min(ema_decay, (1 + n) / (10 + n)) after n of them, so that it soon forgets the start.

    Raises:
        ValueError: nothing to train, or stacked parameters that disagree on the number of groups.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        learning_rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        ema_decay: float = 0.0,
    ) -> None:
        self.learning_rate, self.betas, self.eps, self.weight_decay = learning_rate, betas, eps, weight_decay
        self.ema_decay = ema_decay
        trainable = [(name, parameter) for name, parameter in named_parameters if parameter.requires_grad]
        if not trainable:
            raise ValueError("the optimiser was given nothing to train")
        stacked = [(n, p) for n, p in trainable if hasattr(p, "hilora_group_dim")]
        ordinary = [(n, p) for n, p in trainable if not hasattr(p, "hilora_group_dim")]
        group_counts = {_group_count(parameter) for _, parameter in stacked}
        if len(group_counts) > 1:
            raise ValueError(f"stacked parameters disagree on the number of groups: {sorted(group_counts)}")
        self.parameters = [parameter for _, parameter in trainable]
        self._stacked = _Bank(stacked, group_counts.pop(), ema_decay > 0) if stacked else None
        self._ordinary = _Bank(ordinary, 1, ema_decay > 0) if ordinary else None
        for parameter in self.parameters:
            if hasattr(parameter, "trainable_mask"):  # what does not move has no part in the gradient's norm
                parameter.register_hook(_mask_of(parameter).mul)

    @torch.no_grad()
    def gradient_norm(self) -> Tensor:
        """Give the Euclidean norm of all gradients together, a float32 scalar on their device.

        The gradients are taken off the parameters; they wait here for `step`.
        """
        norms = [torch.linalg.vector_norm(bank.gradients()) for _, bank in self._banks()]
        return torch.linalg.vector_norm(torch.stack(norms).float())

    @torch.no_grad()
    def step(self, presence: Tensor, found_inf: Tensor | None = None, divisor: Tensor | None = None) -> None:
        """Update from the gradients of the parameters and free them, without a device sync.

        Arguments:
            presence: [groups], bool or numbers; non-zero where the effective batch (every accumulated
                micro-batch, on every process) holds a sample of the group.
            found_inf: scalar, non-zero when the gradients must not be used; then nothing at all changes.
            divisor: scalar by which the gradients are divided first; None: 1.
        """
        for bank in (self._stacked, self._ordinary):
            if bank is None:
                continue
            present = (
                presence != 0 if bank is self._stacked else torch.ones_like(presence[:1], dtype=torch.bool)
            )
            self._update(bank, present if found_inf is None else present & (found_inf == 0), divisor)
            bank.forget_gradients()

    def _update(self, bank: _Bank, active: Tensor, divisor: Tensor | None) -> None:
        """Do one step of AdamW for the groups where `active` [groups] holds; the others keep their bits."""
        weights = bank.gather(parameter.detach() for parameter in bank.parameters)
        before = None if bank.mask is None else weights.clone()
        update_rows(
            Rows(weights, bank.gradients(), bank.exp_avg, bank.exp_avg_sq, bank.steps),
            active,
            torch.ones_like(bank.steps[0]) if divisor is None else divisor.float(),
            lr=self.learning_rate,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
        )
        if before is not None and bank.mask is not None:
            weights = torch.where(bank.mask, weights, before)
        if bank.average is not None:
            decay = ((1 + bank.steps) / (10 + bank.steps)).clamp(max=self.ema_decay).to(weights)
            share = torch.where(active, 1 - decay, torch.zeros_like(decay))
            bank.average.lerp_(weights, share[:, None].expand_as(weights))
        bank.scatter(weights, (parameter.detach() for parameter in bank.parameters))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block the parameters hold the averaged weights, where these are kept; then their own."""
        banks = [bank for _, bank in self._banks() if bank.average is not None]
        own = [bank.gather(parameter.detach() for parameter in bank.parameters) for bank in banks]
        for bank in banks:
            self._put(bank, bank.average)
        try:
            yield
        finally:
            for bank, weights in zip(banks, own, strict=True):
                self._put(bank, weights)

    @torch.no_grad()
    def _put(self, bank: _Bank, weights: Tensor | None) -> None:
        if weights is not None:
            bank.scatter(weights, bank.parameters)

    def zero_grad(self) -> None:
        """Free the gradients."""
        for _, bank in self._banks():
            bank.forget_gradients()

    def state_dict(self) -> dict[str, Tensor]:
        """Give the state as named tensors: moments in the parameters' shapes, steps [groups] per bank."""
        state: dict[str, Tensor] = {}
        for bank_name, bank in self._banks():
            state[f"steps.{bank_name}"] = bank.steps.clone()
            for kind, matrix in bank.matrices():
                tensors = [torch.empty_like(parameter) for parameter in bank.parameters]
                bank.scatter(matrix, tensors)
                state |= {f"{kind}.{name}": tensor for name, tensor in zip(bank.names, tensors, strict=True)}
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state_dict` gave.

        Raises:
            ValueError: names or shapes other than those of this optimiser.
        """
        own = self.state_dict()
        unequal = sorted(own.keys() ^ state.keys()) or [
            name for name in own if own[name].shape != state[name].shape
        ]
        if unequal:
            raise ValueError(f"the optimiser's stored state does not fit, first at {unequal[0]!r}")
        for bank_name, bank in self._banks():
            bank.steps.copy_(state[f"steps.{bank_name}"])
            for kind, matrix in bank.matrices():
                matrix.copy_(bank.gather(state[f"{kind}.{name}"].to(matrix) for name in bank.names))

    def _banks(self) -> list[tuple[str, _Bank]]:
        banks = (("stacked", self._stacked), ("ordinary", self._ordinary))
        return [(name, bank) for name, bank in banks if bank is not None]


def _mask_of(parameter: Any) -> Tensor:
    """Give where a parameter may move, [its shape], bool."""
    mask = getattr(parameter, "trainable_mask", None)
    if mask is None:
        return torch.ones_like(parameter, dtype=torch.bool)
    return mask.to(parameter.device)  # type: ignore[no-any-return]


def _group_count(parameter: Any) -> int:
    return int(parameter.shape[parameter.hilora_group_dim] // parameter.hilora_rank)
