"""The names and shapes in a .safetensors file, and its metadata, without its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..errors import UserError


class Shaped(Protocol):
    """A tensor, or what is known of one that is not read."""

    @property
    def shape(self) -> Sequence[int]: ...


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file."""

    shape: tuple[int, ...]


def read_header(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """(tensors by name, metadata) of a .safetensors file, whose length is checked against its header.

    Raises:
        UserError: the file is damaged, cut off, or something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            stored = {name: StoredTensor(tuple(file.get_slice(name).get_shape())) for name in file.keys()}  # noqa: SIM118
            return stored, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise broken_file(path, error) from error


def count_layers(weights: Mapping[str, Shaped], prefix: str) -> int:
    """Of names such as `prefix` 0.mlp.fc1.weight, the numbers that there are."""
    return len({key[len(prefix) :].split(".")[0] for key in weights if key.startswith(prefix)})


def broken_file(path: Path, error: Exception) -> UserError:
    """What is said of a .safetensors file that cannot be read."""
    return UserError(f"{path}: this is no whole safetensors file ({error}): download or copy it again.")
