"""Tensors into a file, where a disk that refuses is told as one: by its number, with the file's name."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

_REFUSED = re.compile(r"\(os error (\d+)\)")


def write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file.

    Raises:
        OSError: the disk is full, or cannot be written; the library tells it as a fault of the format.
    """
    try:
        save_file(dict(tensors), str(file), metadata)
    except SafetensorError as error:
        if (told := _REFUSED.search(str(error))) is None:
            raise
        number = int(told[1])
        if os.name == "nt":  # there it is a number of Windows's own, from which errno follows
            raise OSError(0, str(error), str(file), number) from error
        raise OSError(number, os.strerror(number), str(file)) from error
