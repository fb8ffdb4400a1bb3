"""Ways of sending each sample of a mixed batch through its own emotion's and polarity's LoRA.

`Stacked` is the product's. `Gathered`, `Looped` and `Masked` compute the same otherwise; `Plain`, `Peft` and
`Bare` compute less, and tell what routing adds. Each does one forward and one backward pass per call. Where a
product can add as it goes, as the product's own does, it does so in every form of ours.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coemogen_train.adapter.hilora import HiLoRA

from ..step.plain_loop import add_lora

PLAIN_RANK = 8  # of an emotion's LoRA and its polarity's together
Gradients = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Inputs:
    """noisy: [B, C, h, w]; timesteps: [B]; hidden: [B, L, W], the condition; emotions: [B] int64."""

    noisy: Tensor
    timesteps: Tensor
    hidden: Tensor
    emotions: Tensor

    def rows(self, which: Tensor) -> Inputs:
        """Some of the samples."""
        return Inputs(self.noisy[which], self.timesteps[which], self.hidden[which], self.emotions[which])


@dataclass(frozen=True)
class Passed:
    """What a forward and a backward pass gave: the prediction [B, C, h, w], and the condition's gradient."""

    prediction: Tensor
    hidden_gradient: Tensor


class Bare:
    """The frozen U-Net with nothing on it, and what all others have in common.

    The loss is the mean square of the prediction; gradients go to the condition and to what is trained.
    """

    def __init__(self, unet: Any) -> None:
        self.unet = unet
        self.weights: list[nn.Parameter] = []

    def step(self, inputs: Inputs) -> Passed:
        for weight in self.weights:
            weight.grad = None
        return self.both_ways(inputs, inputs.noisy.numel())

    def both_ways(self, inputs: Inputs, count: int) -> Passed:
        """Forward and backward of some samples, whose squares are divided by `count`."""
        hidden = inputs.hidden.detach().requires_grad_()
        predicted = self.unet(inputs.noisy, inputs.timesteps, encoder_hidden_states=hidden).sample
        (predicted.float().square().sum() / count).backward()
        assert hidden.grad is not None  # noqa: S101
        return Passed(predicted.detach(), hidden.grad)


class Plain(Bare):
    """One LoRA of rank 8 for all samples, by a hook on each layer as the product's are."""

    def __init__(self, unet: Any, hilora: HiLoRA) -> None:
        super().__init__(unet)
        modules = dict(unet.named_modules())
        for key in hilora.layers:
            down, up = (nn.Parameter(matrix.detach().clone()) for matrix in _ranks(hilora, key, PLAIN_RANK))
            self.weights += [down, up]
            modules[key].register_forward_hook(_adding(down, up))


class Peft(Bare):
    """One LoRA of rank 8 for all samples, by peft."""

    def __init__(self, unet: Any) -> None:
        super().__init__(unet)
        self.weights = add_lora(unet, PLAIN_RANK)


class Stacked(Bare):
    """The product's: all groups' matrices in one pair, and a gate for each sample."""

    def __init__(self, unet: Any, hilora: HiLoRA) -> None:
        super().__init__(unet)
        self.hilora = copy.deepcopy(hilora)
        self.weights = list(self.hilora.parameters())
        self.attached = self.hilora.attach(unet)

    def step(self, inputs: Inputs) -> Passed:
        emotion = F.one_hot(inputs.emotions, self.hilora.num_emotions).float()
        self.attached.route(self.hilora.gate(emotion).to(inputs.noisy.dtype))  # as a run does
        return super().step(inputs)

    def gradients(self) -> Gradients:
        """Of every layer: those of down [G * rank, in] and of up [out, G * rank]."""
        return {key: _gradients(*self.hilora.matrices(key)) for key in self.hilora.layers}


class Gathered(Bare):
    """Each sample's 8 rows and columns picked from the stack, and batched products of them."""

    def __init__(self, unet: Any, hilora: HiLoRA) -> None:
        super().__init__(unet)
        self.hilora = copy.deepcopy(hilora)
        self.weights = list(self.hilora.parameters())
        self.picked = torch.empty(0)
        modules = dict(unet.named_modules())
        for key in hilora.layers:
            modules[key].register_forward_hook(self._adding(key))

    def step(self, inputs: Inputs) -> Passed:
        rank = self.hilora.rank
        groups = _groups(self.hilora)[inputs.emotions.cpu()]  # [B, 2]
        within = torch.arange(rank)
        self.picked = (groups[:, :, None] * rank + within).flatten(1).to(inputs.noisy.device)  # [B, 8]
        return super().step(inputs)

    def gradients(self) -> Gradients:
        """See `Stacked.gradients`."""
        return {key: _gradients(*self.hilora.matrices(key)) for key in self.hilora.layers}

    def _adding(self, key: str) -> Any:
        def add(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            down, up = self.hilora.matrices(key)
            x = inputs[0]
            down, up = down.to(x)[self.picked], up.to(x).T[self.picked]  # [B, 8, in], [B, 8, out]
            return torch.baddbmm(output, torch.bmm(x, down.transpose(1, 2)), up)

        return add


class Looped(Bare):
    """One emotion after another: its samples, and its LoRA and its polarity's joined to one of rank 8.

    The LoRA of each group has matrices of its own, as files have them.
    """

    def __init__(self, unet: Any, hilora: HiLoRA) -> None:
        super().__init__(unet)
        self.groups = _groups(hilora)
        self.emotion = 0
        self.of: dict[str, tuple[nn.ParameterList, nn.ParameterList]] = {}
        modules = dict(unet.named_modules())
        for key in hilora.layers:
            down, up = (matrix.detach() for matrix in hilora.matrices(key))
            self.of[key] = (
                nn.ParameterList(part.clone() for part in down.split(hilora.rank)),
                nn.ParameterList(part.clone() for part in up.split(hilora.rank, dim=1)),
            )
            self.weights += [weight for matrices in self.of[key] for weight in matrices]
            modules[key].register_forward_hook(self._adding(key))

    def step(self, inputs: Inputs) -> Passed:
        for weight in self.weights:
            weight.grad = None
        prediction, gradient = torch.empty_like(inputs.noisy), torch.empty_like(inputs.hidden)
        labels = inputs.emotions.cpu()
        for emotion in labels.unique().tolist():
            self.emotion = emotion
            which = (labels == emotion).nonzero()[:, 0].to(inputs.noisy.device)
            passed = self.both_ways(inputs.rows(which), inputs.noisy.numel())
            prediction[which], gradient[which] = passed.prediction, passed.hidden_gradient
        return Passed(prediction, gradient)

    def gradients(self) -> Gradients:
        """See `Stacked.gradients`; zeros where an emotion had no sample."""
        return {key: (_joined(downs, 0), _joined(ups, 1)) for key, (downs, ups) in self.of.items()}

    def _matrices(self, key: str, emotion: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """An emotion's and its polarity's, joined, in the type of `x`: [8, in] and [out, 8]."""
        downs, ups = self.of[key]
        own, polarity = self.groups[emotion].tolist()
        down, up = torch.cat([downs[own], downs[polarity]]), torch.cat([ups[own], ups[polarity]], dim=1)
        return down.to(x), up.to(x)

    def _adding(self, key: str) -> Any:
        def add(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            x = inputs[0]
            down, up = self._matrices(key, self.emotion, x)
            return _added(output, F.linear(x, down), up)

        return add


class Masked(Looped):
    """One pass of the U-Net; in every layer one emotion after another adds its LoRA to its own samples."""

    def __init__(self, unet: Any, hilora: HiLoRA) -> None:
        super().__init__(unet, hilora)
        self.rows_of: dict[int, Tensor] = {}

    def step(self, inputs: Inputs) -> Passed:
        labels = inputs.emotions.cpu()
        self.rows_of = {
            emotion: (labels == emotion).nonzero()[:, 0].to(inputs.noisy.device)
            for emotion in labels.unique().tolist()
        }
        return Bare.step(self, inputs)

    def _adding(self, key: str) -> Any:
        def add(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            for emotion, rows in self.rows_of.items():
                down, up = self._matrices(key, emotion, inputs[0])
                update = F.linear(F.linear(inputs[0].index_select(0, rows), down), up)
                output.index_add_(0, rows, update)
            return output

        return add


def largest_difference(one: Bare, other: Bare, inputs: Inputs) -> float:
    """How far apart two routed forms are in the prediction, the condition's gradient, or any layer's.

    A difference counts as a share of its tensor's largest value. Layers whose gradient is next to nothing
    (queries and keys where a picture is one token, so that there is nothing to choose) are measured by a
    thousandth of the largest gradient of all layers.
    """
    found, expected = (_results(form, inputs) for form in (one, other))
    least = max(float(tensor.abs().max()) for tensor in expected[2:]) / 1000
    floors = [0.0, 0.0, *[least] * (len(expected) - 2)]
    return max(
        float((a - b).abs().max()) / max(float(b.abs().max()), floor)
        for a, b, floor in zip(found, expected, floors, strict=True)
    )


def _results(form: Any, inputs: Inputs) -> list[Tensor]:
    passed = form.step(inputs)
    gradients = [tensor for _, pair in sorted(form.gradients().items()) for tensor in pair]
    return [passed.prediction, passed.hidden_gradient, *gradients]


def filled(hilora: HiLoRA, seed: int = 0) -> HiLoRA:
    """As after some training: `up` is no longer zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key in hilora.layers:
            up = hilora.matrices(key)[1]
            up.copy_(torch.randn(up.shape, generator=generator) * 0.02)
    return hilora


def in_type(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    """With what the U-Net reads in the type of its weights."""
    return replace(inputs, noisy=inputs.noisy.to(dtype), hidden=inputs.hidden.to(dtype))


def _adding(down: Tensor, up: Tensor) -> Any:
    def add(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = inputs[0]
        return _added(output, F.linear(x, down.to(x)), up.to(x))

    return add


def _added(output: Tensor, hidden: Tensor, up: Tensor) -> Tensor:
    """output [B, ..., out] + hidden [B, ..., rank] @ up.T, as the product's `add_hilora` does it."""
    rows = torch.addmm(output.flatten(0, -2), hidden.flatten(0, -2), up.T)
    return rows.view(output.shape)


def _ranks(hilora: HiLoRA, key: str, rank: int) -> tuple[Tensor, Tensor]:
    """The first ranks of a stack."""
    down, up = hilora.matrices(key)
    return down[:rank], up[:, :rank]


def _groups(hilora: HiLoRA) -> Tensor:
    """The two groups of each emotion: its own, its polarity's. [E, 2]"""
    emotions = hilora.num_emotions
    return torch.tensor([[number, emotions + pole] for number, pole in enumerate(hilora.polarity_of)])


def _gradients(down: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    assert down.grad is not None and up.grad is not None  # noqa: S101
    return down.grad, up.grad


def _joined(weights: nn.ParameterList, dim: int) -> Tensor:
    return torch.cat([torch.zeros_like(w) if w.grad is None else w.grad for w in weights], dim)
