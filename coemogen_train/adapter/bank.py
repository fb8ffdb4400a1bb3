"""Several adapters' HiLoRA beside one U-Net, joined into one bank: one gate row routes them all.

Two loaders in a chain add up as two LoRAs do. Joined, they cost one pass beside each layer, and what is put
on a layer is taken off it again in one go.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .hilora import HiLoRA


class HiLoRABank(nn.Module):
    """The stacked matrices of several HiLoRA, for `AttachedHiLoRA`.

    Args:
        members: an adapter's checksum -> its HiLoRA; the order is that of the gate's columns.
        dtype: of the copied matrices, that in which the U-Net computes.

    A layer that a member lacks has zeros in that member's place.
    """

    def __init__(self, members: Mapping[str, HiLoRA], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.places: dict[str, slice] = {}
        start = 0
        for checksum, hilora in members.items():
            self.places[checksum] = slice(start, start + hilora.gate_width)
            start += hilora.gate_width
        self.gate_width = start
        sizes = {key: size for hilora in members.values() for key, size in hilora.layers.items()}
        self._slots = {key: str(slot) for slot, key in enumerate(sorted(sizes))}
        self.down = nn.ParameterDict()
        self.up = nn.ParameterDict()
        for key, slot in self._slots.items():
            down, up = zip(*(_matrices(hilora, key, sizes[key]) for hilora in members.values()), strict=True)
            self.down[slot] = nn.Parameter(torch.cat(down).to(dtype), requires_grad=False)
            self.up[slot] = nn.Parameter(torch.cat(up, dim=1).to(dtype), requires_grad=False)

    @property
    def layers(self) -> tuple[str, ...]:
        """The module paths in a diffusers U-Net, of all members."""
        return tuple(self._slots)

    def matrices(self, key: str) -> tuple[Tensor, Tensor]:
        """(down [width, in], up [out, width]) of the layer at module path `key`."""
        slot = self._slots[key]
        return self.down[slot], self.up[slot]

    def joined(self, gates: Mapping[str, Tensor]) -> Tensor:
        """[R, width]: the members' gates [R, G * rank] side by side, 0 for a member without one."""
        count = max((len(gate) for gate in gates.values()), default=1)
        row = torch.zeros(count, self.gate_width)
        for checksum, gate in gates.items():
            row[:, self.places[checksum]] = gate.to(row)
        return row


def _matrices(hilora: HiLoRA, key: str, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    if key in hilora.layers:
        return hilora.matrices(key)
    return torch.zeros(hilora.gate_width, size[0]), torch.zeros(size[1], hilora.gate_width)
