"""U-Nets that stand beside one another on the same weights."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn


def twin(unet: nn.Module) -> Any:
    """A second U-Net of the same tensors, so that what is put on the one is not on the other.

    It takes no memory of its own. To be made before anything is attached to `unet`: it would have that, too.
    """
    kept = {id(tensor): tensor for tensor in (*unet.parameters(), *unet.buffers())}
    return copy.deepcopy(unet, kept)
