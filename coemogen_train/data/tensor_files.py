"""Tensors into a safetensors file, and its header out of one that is open.

A disk that refuses is told as one: by its number, with the file's name.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

_LENGTH_BYTES = 8  # of the length that stands before the header
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


def read_header(file: BinaryIO) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file that is open, and where its data begin, in bytes.

    Not by the library, which maps the file: systems then read megabytes ahead, from each of thousands.

    Raises:
        EOFError: the file ends within its header. ValueError, RecursionError: the header is no JSON.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if _LENGTH_BYTES + length > size:
        raise EOFError("it is shorter than it was")
    return json.loads(file.read(length)), _LENGTH_BYTES + length
