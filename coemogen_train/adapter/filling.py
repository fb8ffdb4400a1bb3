"""Giving an adapter's tensors to modules that have no memory yet, so that loading holds no byte twice."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from .condition import EmotionEmbedder
from .hilora import HiLoRA


def fill(embedder: EmotionEmbedder, hilora: HiLoRA, tensors: dict[str, Tensor]) -> None:
    """Take the tensors of two modules, made on the meta device, out of `tensors`, by their names in the file.

    What is stored in half precision becomes float32 on its way. All of them must be there, of the modules'
    shapes.
    """
    for part, module in (("mapper", embedder.mapper), ("encoder", embedder.encoder)):
        _give(module, {name: f"{part}.{name}" for name in module.state_dict()}, tensors)
    sides = (name.partition(".") for name in hilora.state_dict())
    names = {f"{side}.{slot}": f"hilora.{slot.replace('/', '.')}.{side}" for side, _, slot in sides}
    _give(hilora, names, tensors)
    polarities = hilora.num_groups - hilora.num_emotions
    membership = one_hot(torch.tensor(hilora.polarity_of, device="cpu"), polarities).float()
    hilora.register_buffer("membership", membership, persistent=False)
    hilora.to("cpu")  # these are new parameters, and moving them marks their groups


def _give(module: nn.Module, names: Mapping[str, str], tensors: dict[str, Tensor]) -> None:
    """names: those of the module's tensors -> those in `tensors`."""
    module.load_state_dict({own: tensors.pop(name).float() for own, name in names.items()}, assign=True)
