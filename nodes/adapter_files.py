"""The adapters in models/coemogen: which there are, what they offer, and their content."""

from __future__ import annotations

import hashlib
from pathlib import Path
from weakref import WeakValueDictionary

import folder_paths

from ..coemogen_train.adapter.file import Adapter, load_adapter, read_adapter_info
from ..coemogen_train.adapter.info import AdapterInfo
from ..coemogen_train.emotions import MIKELS
from ..coemogen_train.errors import AdapterError
from .folders import ADAPTERS, shown_folders

NONE_INSTALLED = "none installed"
# The headers that were read, by path, with the size and time they had: menus are made anew at every look.
_headers: dict[Path, tuple[tuple[int, int], AdapterInfo | None]] = {}
# Loaders of the same content share one copy, for as long as somebody holds it.
_loaded: WeakValueDictionary[str, Adapter] = WeakValueDictionary()


def adapter_options() -> list[str]:
    """What the menu of adapters shows: the files, or the one entry that explains itself."""
    return folder_paths.get_filename_list(ADAPTERS) or [NONE_INSTALLED]


def emotion_options() -> list[str]:
    """The emotions of the adapters at hand, in their order; the default eight while there is none."""
    infos = (_header(path) for path in map(_path, folder_paths.get_filename_list(ADAPTERS)) if path)
    found = dict.fromkeys(name for info in infos if info for name in info.taxonomy.names)
    return list(found or MIKELS.names)


def find_adapter(name: str) -> Path:
    """The file that a loader's menu entry means.

    Raises:
        AdapterError: it is not there, or none is; the message says where adapters go and how to get one.
    """
    names = folder_paths.get_filename_list(ADAPTERS)
    if name == NONE_INSTALLED and len(names) == 1:  # a shipped workflow beside the only adapter: no doubt
        name = names[0]
    path = _path(name)
    if path is not None:
        return path
    if not names:
        raise AdapterError(
            "no adapter is installed: train one with coemogen_train or get one from somebody who did, put "
            f"its .safetensors file into {shown_folders(ADAPTERS)}, press R in ComfyUI and choose it here."
        )
    wanted = "no adapter is chosen" if name == NONE_INSTALLED else f"there is no adapter '{name}'"
    raise AdapterError(f"{wanted} in {shown_folders(ADAPTERS)}: choose {' or '.join(names[:5])}.")


def fingerprint(name: str) -> str:
    """The SHA-256 of the file's bytes, so that a file replaced under its name takes effect."""
    with find_adapter(name).open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def read_adapter(name: str) -> Adapter:
    """The adapter, checked from end to end.

    Raises:
        AdapterError: it is not there, or cannot be used.
    """
    adapter = load_adapter(find_adapter(name))
    return _loaded.setdefault(adapter.checksum, adapter)


def check_header(name: str) -> None:
    """Refuse a file that is not there or is no adapter, before anything is computed.

    Raises:
        AdapterError: likewise.
    """
    read_adapter_info(find_adapter(name))


def _path(name: str) -> Path | None:
    found = folder_paths.get_full_path(ADAPTERS, name)
    return Path(found) if found and name.lower().endswith(".safetensors") else None


def _header(path: Path) -> AdapterInfo | None:
    """What the file says of itself; None for one that cannot be read, whose loader will say why."""
    try:
        stat = path.stat()
    except OSError:
        return None
    stamp = (stat.st_size, stat.st_mtime_ns)
    if path not in _headers or _headers[path][0] != stamp:
        try:
            _headers[path] = (stamp, read_adapter_info(path))
        except AdapterError:
            _headers[path] = (stamp, None)
    return _headers[path][1]
