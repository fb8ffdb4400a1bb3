"""What a fit leaves: a file of tensors with a few facts, written whole, its faults told in one sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import DataError
from ..files import atomic_path, canonical_json

LEARNED = "learned.safetensors"
# One key: safetensors writes several in no fixed order, and equal fits should be equal bytes.
_FACTS = "coemogen_method"


@dataclass(frozen=True)
class Learned:
    """tensors: by name. facts: JSON values, `names` of the emotions among them."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]

    def write(self, folder: Path) -> None:
        """Leave it in `folder`."""
        from ..data.tensor_files import write_tensors

        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors.items()}
        with atomic_path(folder / LEARNED) as part:
            write_tensors(part, tensors, {_FACTS: canonical_json(dict(self.facts))})


def read_tensors(file: Path) -> Learned:
    """Read such a file. Raises: DataError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            facts = json.loads((opened.metadata() or {})[_FACTS])
        if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            raise ValueError("values that are no numbers")
        return Learned(tensors, facts)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise DataError(f"{file}: what was learned cannot be read ({error}): fit the method again.") from None


@contextmanager
def reading(folder: Path) -> Iterator[Learned]:
    """What was learned in `folder`; a fault of its names, shapes or facts in the block is told as the file's.

    Raises:
        DataError: it is missing, damaged, or another method's or base's.
    """
    learned = read_tensors(folder / LEARNED)
    try:
        yield learned
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        fault = str(error).splitlines()[0]
        raise DataError(
            f"{folder / LEARNED}: it was not learned by this method on this base ({fault}): fit it again."
        ) from None
