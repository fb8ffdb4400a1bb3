"""A captioning model's folder, before transformers opens it: what it is, and whether it can be read.

Nothing in it may run: weights are read from .safetensors alone, and code beside a model is never loaded.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ..errors import CaptionError

CONFIG = "config.json"
_MAX_CONFIG = 4 * 2**20
_ADAPTER = "adapter_config.json"
# Words by one of which a model's configuration says that it sees.
_SIGHT = ("vision", "image", "visual", "img_processor")
# Under these keys other values make transformers fetch a kernel from the hub and run it; "flash_attention_2"
# too, where flash_attn is not installed and the package kernels is.
_IMPLEMENTATIONS = frozenset(("attn_implementation", "experts_implementation"))
_OWN_IMPLEMENTATIONS = (None, "eager", "sdpa")
# What of a folder its answers depend on, and how much of large files is read to know them again.
_COUNTING = frozenset((".safetensors", ".json", ".jinja", ".model", ".txt"))
_SMALL = 1 << 24
_PIECES = 256
_PIECE = 1 << 14
_WHAT = "put a folder of an image-text-to-text model there, as it lies in its repository"


def is_model_folder(folder: Path) -> bool:
    """Whether a folder holds a model in transformers' layout, of whatever kind."""
    return (folder / CONFIG).is_file()


def read_config(folder: Path) -> dict[str, Any]:
    """The model's configuration.

    Raises: CaptionError where there is none, or it is no configuration.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise CaptionError(f"{folder} holds no captioning model (it has no {CONFIG}): {_WHAT}.")
    try:
        if path.stat().st_size > _MAX_CONFIG:
            raise ValueError("too large")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CaptionError(
            f"{path} cannot be read ({type(error).__name__}): copy or download the model again."
        ) from None
    if not isinstance(config, dict):
        raise CaptionError(f"{path} is no model's configuration: copy or download the model again.")
    return config


def sees_pictures(folder: Path) -> bool:
    """Whether a model says of itself that it takes pictures; False for one whose configuration is broken."""
    try:
        return any(word in key for key in read_config(folder) for word in _SIGHT)
    except CaptionError:
        return False


def check_model_folder(folder: Path) -> dict[str, Any]:
    """The configuration of a model that may be opened.

    Raises: CaptionError in one sentence for one that has no weights that are safe to read, or is no model.
    """
    config = read_config(folder)
    if (folder / _ADAPTER).is_file():
        raise CaptionError(
            f"{folder} is an adapter on another model ({_ADAPTER}): merge it, or take the whole model."
        )
    if not any(folder.glob("*.safetensors")):
        raise CaptionError(
            f"{folder} has no .safetensors weights (others can run code when they are opened, and never "
            "are): get the model in that format."
        )
    _check_attention(config, folder / CONFIG)
    return config


def _check_attention(config: dict[str, Any], path: Path) -> None:
    """Refuse a configuration, or one within it, whose attention or experts are code from somewhere else.

    Raises: CaptionError
    """
    left: list[tuple[str, Any]] = [("", config)]  # under which of the keys, and what
    while left:
        key, value = left.pop()
        if isinstance(value, dict):
            left += ((name if _is_implementation(name) else key, inner) for name, inner in value.items())
        elif isinstance(value, list):
            left += ((key, inner) for inner in value)
        elif key and value not in _OWN_IMPLEMENTATIONS:
            raise CaptionError(
                f"{path} asks for code from elsewhere ('{key}' is {ascii(value)[:80]}), which is never "
                "fetched: take the entry out, or choose another model."
            )


def _is_implementation(key: str) -> bool:
    """Whether it is such a key, and not "_attn_implementation_autoset", which transformers writes."""
    return key.strip("_").removesuffix("_internal") in _IMPLEMENTATIONS


def needs_code(config: dict[str, Any]) -> bool:
    """Whether a configuration names code that lies beside the model."""
    return bool(config.get("auto_map"))


def folder_fingerprint(folder: Path) -> str:
    """Changes when a file of the folder does: names, sizes and times, since weights have gigabytes."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file():
            status = path.stat()
            digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "replace"))
    return digest.hexdigest()


def content_fingerprint(folder: Path) -> str:
    """Of what is in the folder's files, wherever it lies: the same for a copy on another machine.

    Small files count whole; of weights, which have gigabytes, the length, both ends and pieces in between.
    Returns: 16 hexadecimal digits. Raises: OSError
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.suffix not in _COUNTING or not path.is_file():
            continue
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\n".encode("utf-8", "replace"))
        with path.open("rb") as stream:
            if size <= _SMALL:
                digest.update(stream.read())
                continue
            for piece in range(_PIECES):
                stream.seek((size - _PIECE) * piece // (_PIECES - 1))
                digest.update(stream.read(_PIECE))
    return digest.hexdigest()[:16]
