"""Emotion heads that others published: one linear layer on CLIP's image features, read as a probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .probes import EmotionProbe, FloatArray
from .weights import read_checkpoint


def load_linear_head(path: Path, classes: Sequence[str], backbone: str = "CLIP ViT-L/14") -> EmotionProbe:
    """Read a published head as a probe: mean 0, scale 1, so logits = fc.weight features + fc.bias.

    Args:
        path: a .safetensors file, or a .pt or .pth file, of which nothing but tensors is read (torch's
            `weights_only`), with `fc.weight` [E, V] and `fc.bias` [E].
        classes: [E], the emotion of each row in the head's own order. No file tells it, and the heads in
            use differ in it (alphabetical order, EmoSet's order): it has to be known from where the head
            comes from.
        backbone: what makes the features. The head knows no fingerprint, so only the width can be checked.

    Raises:
        DataError: names the file and what is wrong with it.
    """
    names = tuple(name.strip() for name in classes)
    if len(names) < 2 or len({name.casefold() for name in names}) < len(names) or not all(names):
        raise DataError(
            f"the emotions of {path} are to be given in the order of its rows, each once, not as "
            f"'{', '.join(names)}'."
        )
    tensors = _tensors(path)
    weight, bias = _float64(tensors, "fc.weight", path), _float64(tensors, "fc.bias", path)
    if weight.ndim != 2 or bias.shape != weight.shape[:1] or not weight.size:
        raise DataError(
            f"{path} is no linear head: fc.weight has the shape {weight.shape} and fc.bias {bias.shape}."
        )
    if len(weight) != len(names):
        raise DataError(
            f"the head in {path} tells {len(weight)} emotions apart, and {len(names)} were named: name them "
            "all, in the order of its rows."
        )
    width = weight.shape[1]
    return EmotionProbe(names, weight, bias, np.zeros(width), np.ones(width), backbone, trained_on=0)


def _tensors(path: Path) -> Mapping[str, Any]:
    """The named values of a file, without what wrappers put around and before them."""
    try:
        found = read_checkpoint(path)
    except OSError as error:
        raise DataError(f"the emotion head {path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # on damaged bytes the readers raise anything, from struct.error to TypeError
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{path} holds no tensors that can be read safely ({reason}): save its state_dict() alone, best "
            "as .safetensors."
        ) from error
    if found is None:
        raise DataError(f"{path} is no linear head: it holds no fc.weight.")
    return found


def _float64(tensors: Mapping[str, Any], name: str, path: Path) -> FloatArray:
    import torch

    tensor = tensors.get(name)
    if not isinstance(tensor, torch.Tensor):
        told = ", ".join(sorted(tensors)[:5]) or "nothing"
        raise DataError(f"{path} is no linear head: it holds no {name}, but {told}.")
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_complex() or tensor.is_quantized:
        raise DataError(
            f"{path} is no linear head: {name} is not of plain numbers, but {_kind(tensor)}: save a dense "
            "tensor of real numbers."
        )
    array = tensor.detach().to(torch.float64).numpy()
    if not np.isfinite(array).all():
        raise DataError(f"{path} is damaged: {name} is not of finite numbers.")
    return np.array(array)


def _kind(tensor: Any) -> str:
    """What a tensor is, in its own terms: sparse, on no device, complex, quantized."""
    return f"{tensor.dtype}, {tensor.layout}, on {tensor.device}".replace("torch.", "")
