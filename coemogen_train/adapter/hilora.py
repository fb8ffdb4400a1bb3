"""HiLoRA: one low-rank update per emotion and one per polarity, stacked so that a mixed batch is one pass.

    W' = W + A^p B^p + A^e B^e

CoEmoGen (arXiv 2508.03535): exactly one of each kind is active for a sample.
All groups of a layer live in one pair of matrices, and a gate per sample switches them:

    y = base(x) + ((x @ down.T) * gate[:, None, :]) @ up.T

Group order everywhere: the E emotions of the taxonomy, then its P polarities; G = E + P.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import AdapterError

if TYPE_CHECKING:
    from .bank import HiLoRABank

# The attention projections of a diffusers U-Net, self- and cross-attention alike (METHOD: the default).
ATTENTION_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


class RowsError(ValueError):
    """A gate with other rows than the batch."""


def hilora_delta(x: Tensor, down: Tensor, up: Tensor, gate: Tensor) -> Tensor:
    """What HiLoRA adds to a layer's output: ((x @ down.T) * gate) @ up.T.

    Args:
        x: [B, ..., in], the layer's input; its dtype (autocast's, where that is on) is that of the products.
        down: [G * rank, in]; rows g * rank .. (g + 1) * rank belong to group g.
        up: [out, G * rank]; columns likewise.
        gate: [B, G * rank] or [1, G * rank], as `HiLoRA.gate` makes it.

    Returns:
        [B, ..., out].
    """
    hidden = _gated(x, down, gate)
    return F.linear(hidden, up.to(hidden))


def add_hilora(output: Tensor, x: Tensor, down: Tensor, up: Tensor, gate: Tensor) -> Tensor:
    """A layer's `output` [B, ..., out] with `hilora_delta` added, in the output's dtype.

    Where all is of one dtype the second product adds as it goes, so that the update is never written down.
    """
    hidden = _gated(x, down, gate)
    if hidden.dtype != output.dtype:
        return output + F.linear(hidden, up.to(hidden)).to(output.dtype)
    rows = torch.addmm(output.flatten(0, -2), hidden.flatten(0, -2), up.to(hidden).T)
    return rows.view(output.shape)


def _gated(x: Tensor, down: Tensor, gate: Tensor) -> Tensor:
    """(x @ down.T) * gate, [B, ..., G * rank]."""
    hidden = F.linear(x, down.to(x))
    if gate.shape[0] not in (1, x.shape[0]):
        raise RowsError(
            f"{gate.shape[0]} rows are routed, but the batch has {x.shape[0]} rows: route each row."
        )
    return hidden * gate.to(hidden.dtype).view(gate.shape[0], *[1] * (x.dim() - 2), -1)


class HiLoRA(nn.Module):
    """The stacked low-rank matrices of every adapted layer.

    Args:
        layers: module path in the U-Net -> (in_features, out_features).
        polarity_of: for each emotion the index of its polarity group.
        rank: rank of one group's update.
        alpha: the update is scaled by alpha / rank; None means alpha = rank, a scale of 1.

    `down` starts as `nn.Linear` does and `up` at zero, so that an untrained HiLoRA changes nothing. Each
    parameter carries `hilora_group_dim` (the axis on which groups are stacked: 0 for down, 1 for up) and
    `hilora_rank` (rows or columns per group), by which the optimiser tells the groups apart.

    Raises:
        AdapterError: no layer at all.
    """

    membership: Tensor

    def __init__(
        self,
        layers: Mapping[str, tuple[int, int]],
        polarity_of: Sequence[int],
        rank: int = 4,
        alpha: float | None = None,
    ) -> None:
        super().__init__()
        if not layers:
            raise AdapterError("HiLoRA has no layer to adapt: name target modules that the base model has.")
        self.layers = {key: (int(size[0]), int(size[1])) for key, size in sorted(layers.items())}
        self.polarity_of = tuple(polarity_of)
        self.rank = rank
        self.alpha = float(rank if alpha is None else alpha)
        self.num_emotions = len(self.polarity_of)
        self.num_groups = self.num_emotions + max(self.polarity_of) + 1
        width = self.num_groups * rank
        self.down = nn.ParameterDict()
        self.up = nn.ParameterDict()
        for key, (in_features, out_features) in self.layers.items():
            down = nn.Parameter(torch.empty(width, in_features))
            nn.init.kaiming_uniform_(down, a=math.sqrt(5))  # nn.Linear's: uniform within 1 / sqrt(in)
            self.down[_slot(key)] = down
            self.up[_slot(key)] = nn.Parameter(torch.zeros(out_features, width))
        membership = torch.zeros(self.num_emotions, max(self.polarity_of) + 1)  # [E, P]
        membership[range(self.num_emotions), self.polarity_of] = 1.0
        self.register_buffer("membership", membership, persistent=False)
        self._mark_groups()

    @classmethod
    def for_unet(
        cls,
        unet: nn.Module,
        polarity_of: Sequence[int],
        rank: int = 4,
        targets: Sequence[str] = ATTENTION_TARGETS,
        alpha: float | None = None,
    ) -> HiLoRA:
        """A fresh HiLoRA for every linear layer of `unet` whose path ends in one of `targets`.

        Raises:
            AdapterError: a target that no layer of the U-Net answers to, or one that is no linear layer.
        """
        return cls(find_layers(unet, targets), polarity_of, rank, alpha)

    def gate(self, emotion: Tensor, emotion_strength: float = 1.0, polarity_strength: float = 1.0) -> Tensor:
        """The routing of each sample.

        Args:
            emotion: [B, E]; one-hot in training, any mixture at inference.
            emotion_strength, polarity_strength: factors on the two kinds of groups; 1 is as trained.

        Returns:
            [B, G * rank]: an emotion's weight, for a polarity the sum of its emotions' weights, each repeated
            `rank` times and scaled by alpha / rank.
        """
        emotion = emotion.to(self.membership)
        polarity = emotion @ self.membership
        groups = torch.cat([emotion * emotion_strength, polarity * polarity_strength], dim=1)
        return groups.repeat_interleave(self.rank, dim=1) * (self.alpha / self.rank)

    @property
    def gate_width(self) -> int:
        """G * rank, the length of one sample's routing."""
        return self.num_groups * self.rank

    def matrices(self, key: str) -> tuple[Tensor, Tensor]:
        """(down [G * rank, in], up [out, G * rank]) of the layer at module path `key`."""
        return self.down[_slot(key)], self.up[_slot(key)]

    def merged_delta(self, key: str, gate_row: Tensor) -> Tensor:
        """The weight update [out, in] of one layer under one routing `gate_row` [G * rank]."""
        down, up = self.matrices(key)
        return (up * gate_row.to(up)) @ down

    def attach(self, unet: nn.Module) -> AttachedHiLoRA:
        """Put HiLoRA beside the layers of `unet`; the U-Net's own modules and weights stay as they are.

        Raises:
            AdapterError: the U-Net lacks a layer, or has it in another size: it is not the adapter's base.
        """
        modules = dict(unet.named_modules())
        for key, size in self.layers.items():
            layer = modules.get(key)
            if not isinstance(layer, nn.Linear):
                raise AdapterError(
                    f"the base model has no linear layer '{key}', which the adapter was trained on: "
                    "use the base model that the adapter names."
                )
            if (layer.in_features, layer.out_features) != size:
                raise AdapterError(
                    f"the base model's layer '{key}' is {layer.in_features} to {layer.out_features} wide, "
                    f"the adapter's {size[0]} to {size[1]}: use the base model that the adapter names."
                )
        return AttachedHiLoRA(self, {key: modules[key] for key in self.layers})

    def _mark_groups(self) -> None:
        for group_dim, matrices in enumerate((self.down, self.up)):
            for parameter in matrices.values():
                parameter.hilora_group_dim = group_dim
                parameter.hilora_rank = self.rank

    # Copies and conversions may make new Parameter objects, which carry no attributes of ours.
    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._mark_groups()

    def _apply(self, fn: Any, recurse: bool = True) -> HiLoRA:
        super()._apply(fn, recurse)
        self._mark_groups()
        return self


class AttachedHiLoRA:
    """HiLoRA beside the layers of one U-Net: says which row of the batch is routed how, until `remove`.

    Nothing is added while no gate is set. A gate stays until the next `route`, so that the backward pass of
    a checkpointed forward, which runs the layers again, sees the same one: route only after `backward`.

    Args:
        hilora: a HiLoRA, or a `HiLoRABank` of several.
        modules: the layers, by the module paths under which `hilora` knows them.
        tiles: whether a layer of self-attention may get k rows for each row of the gate, those of one picture
            side by side, as patches make them that cut pictures into tiles.
    """

    def __init__(
        self, hilora: HiLoRA | HiLoRABank, modules: Mapping[str, nn.Module], tiles: bool = False
    ) -> None:
        self.hilora = hilora
        self.tiles = tiles
        self.current_gate: Tensor | None = None
        self._hooks = [self._hook(key, module) for key, module in modules.items()]

    def route(self, gate: Tensor | None) -> None:
        """Set the gate [B, G * rank], or [1, G * rank] for all rows, of the next passes; None: bare base."""
        if gate is not None:
            width = self.hilora.gate_width
            if gate.dim() != 2 or gate.shape[1] != width:
                raise ValueError(
                    f"a gate is [batch, {width}], not {list(gate.shape)}: make it with HiLoRA.gate."
                )
        self.current_gate = gate

    def remove(self) -> None:
        """Take HiLoRA off again; the U-Net is as it was before `attach`."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self.current_gate = None

    def __enter__(self) -> AttachedHiLoRA:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _hook(self, key: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def add_delta(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            gate = self.current_gate
            if gate is None:
                return output
            down, up = self.hilora.matrices(key)
            rows = inputs[0].shape[0]
            if self.tiles and ".attn1." in key and rows % gate.shape[0] == 0:
                gate = gate.repeat_interleave(rows // gate.shape[0], dim=0)
            return add_hilora(output, inputs[0], down, up, gate)

        return module.register_forward_hook(add_delta)


def find_layers(unet: nn.Module, targets: Sequence[str] = ATTENTION_TARGETS) -> dict[str, tuple[int, int]]:
    """The linear layers of `unet` whose path ends in a target: module path -> (in_features, out_features).

    Raises:
        AdapterError: a target that no layer answers to, or one that is no linear layer.
    """
    found: dict[str, tuple[int, int]] = {}
    for target in targets:
        matches = {
            path: module
            for path, module in unet.named_modules()
            if f".{path}".endswith(f".{target}") and path
        }
        if not matches:
            raise AdapterError(
                f"the base model has no module '{target}' for HiLoRA: correct 'targets', "
                f"whose default is {', '.join(ATTENTION_TARGETS)}."
            )
        for path, module in matches.items():
            if not isinstance(module, nn.Linear):
                raise AdapterError(
                    f"HiLoRA adapts linear layers, but '{path}' is {type(module).__name__}: "
                    f"take '{target}' out of 'targets'."
                )
            found[path] = (module.in_features, module.out_features)
    return dict(sorted(found.items()))


def _slot(key: str) -> str:
    """A module path as the name of a parameter, which may not contain dots."""
    return key.replace(".", "/")
