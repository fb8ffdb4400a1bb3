"""The captioning models on this machine: which there are, and one in memory, under ComfyUI's management."""

from __future__ import annotations

import logging
import weakref
from dataclasses import dataclass
from pathlib import Path

import folder_paths
import torch
from comfy import model_management
from comfy.model_patcher import ModelPatcher

from ..coemogen_train.captions import (
    LocalCaptioner,
    check_local_captioner,
    check_model_folder,
    folder_fingerprint,
    is_model_folder,
    load_local_captioner,
    sees_pictures,
)
from ..coemogen_train.errors import CaptionError
from .folders import CAPTIONERS, shown_folders

SERVER = "server"
# Where other packs keep language models; those that see are offered too.
_OTHERS = "LLM"


def captioner_options() -> list[str]:
    """What the menu shows: the server, and the folders of models."""
    return [SERVER, *_folders()]


def find_captioner(name: str) -> Path:
    """The folder that a menu entry means.

    Raises:
        CaptionError: it is not there; the message says what goes where.
    """
    folder = _folders().get(name)
    if folder is None:
        raise CaptionError(
            f"there is no captioning model '{name}' in {shown_folders(CAPTIONERS)}: put the folder of an "
            "image-text-to-text model there, as it lies in its repository (config.json, .safetensors and the "
            f"rest), press R and choose it, or choose '{SERVER}'."
        )
    return folder


def check_captioner(name: str) -> None:
    """Refuse a model that is not there or has no safe weights, from a look at its folder.

    Raises:
        CaptionError
    """
    check_model_folder(find_captioner(name))


def check_captioner_kind(name: str) -> None:
    """Refuse a model that transformers cannot open, without reading its weights.

    Raises:
        CaptionError
    """
    check_local_captioner(find_captioner(name))


def fingerprint(name: str) -> str:
    """Changes when a file of the model's folder does."""
    return folder_fingerprint(find_captioner(name))


class Keeper:
    """Holds the model for a node; it goes when ComfyUI lets go of the node, or another model is opened."""

    def __init__(self) -> None:
        self.kept: _OpenModel | None = None
        _keepers.add(self)


_keepers: weakref.WeakSet[Keeper] = weakref.WeakSet()


def open_captioner(name: str) -> LocalCaptioner:
    """The model, on the device where ComfyUI computes; ComfyUI may move it away again afterwards.

    Raises:
        CaptionError: it is not there, or cannot be opened.
    """
    folder = find_captioner(name)
    stamp = (str(folder), folder_fingerprint(folder))
    kept = next((keeper.kept for keeper in _keepers if keeper.kept and keeper.kept.stamp == stamp), None)
    if kept is None:
        for keeper in _keepers:  # before, so that memory never holds two
            keeper.kept = None
        kept = _read(folder, stamp)
    for keeper in _keepers:
        keeper.kept = kept
    # Whole or not at all: layers of transformers cannot compute with weights that lie elsewhere.
    model_management.load_models_gpu([kept.patcher], force_full_load=True)
    return kept.captioner


@dataclass(frozen=True, eq=False)
class _OpenModel:
    stamp: tuple[str, str]
    captioner: LocalCaptioner
    patcher: ModelPatcher


class CaptioningModel(torch.nn.Module):
    """Around the network, because a ModelPatcher writes attributes that transformers' classes refuse."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network = network


def _read(folder: Path, stamp: tuple[str, str]) -> _OpenModel:
    device, offload = model_management.get_torch_device(), model_management.unet_offload_device()
    logging.info("CoEmoGen: reading the captioning model %s", folder.name)
    captioner = load_local_captioner(folder, "cpu", _dtype(device))
    return _OpenModel(stamp, captioner, ModelPatcher(CaptioningModel(captioner.network), device, offload))


def _dtype(device: torch.device) -> torch.dtype:
    if model_management.should_use_bf16(device):
        return torch.bfloat16
    return torch.float16 if model_management.should_use_fp16(device) else torch.float32


def _folders() -> dict[str, Path]:
    """The folders of models by the names of the menu; of equal names the first."""
    found: dict[str, Path] = {}
    for key in (CAPTIONERS, _OTHERS):
        if key in folder_paths.folder_names_and_paths:
            for base in map(Path, folder_paths.get_folder_paths(key)):
                for folder in _models_in(base):
                    if key == CAPTIONERS or sees_pictures(folder):
                        found.setdefault(folder.relative_to(base).as_posix(), folder)
    return found


def _models_in(base: Path) -> list[Path]:
    """The folders of models directly in `base`, or in a folder there (as those of one maker may lie)."""
    models: list[Path] = []
    for child in _subfolders(base):
        models += [child] if is_model_folder(child) else filter(is_model_folder, _subfolders(child))
    return models


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir())
    except OSError:  # not made yet, or not ours to read
        return []
