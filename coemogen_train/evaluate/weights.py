"""The weights behind the paper's metrics: which files, what for, whence, and how they are found and read.

They come from where their libraries keep them (torch's hub cache, filled from the network where there is one)
or from a folder that the user names. Nothing but tensors is ever read of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError

CLIP_SPEC = "openai/clip-vit-large-patch14"


@dataclass(frozen=True)
class WeightFile:
    """A file of weights. name: what it is called in the cache and in --weights-dir. purpose: whose and what
    for. source: where it can be had. aliases: other names that it is found by. mib: its size, about.
    """

    name: str
    purpose: str
    source: str
    aliases: tuple[str, ...] = ()
    mib: int = 0


INCEPTION = WeightFile(
    "weights-inception-2015-12-05-6726825d.pth",
    "Inception v3 of 2015, for FID, KID, precision, recall, density and coverage",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    aliases=("pt_inception-2015-12-05-6726825d.pth",),  # the same file as pytorch-fid calls it
    mib=91,
)
ALEXNET = WeightFile(
    "alexnet-owt-7be5be79.pth",
    "AlexNet, for LPIPS (its learned weights come with the lpips package)",
    "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    mib=233,
)
IMAGENET = WeightFile(
    "resnet50-0676ba61.pth",
    "ResNet-50 on ImageNet (V1), for Sem-C",
    "https://download.pytorch.org/models/resnet50-0676ba61.pth",
    mib=98,
)
PLACES = WeightFile(
    "resnet50_places365.pth.tar",
    "ResNet-50 on Places365, for Sem-C",
    "http://places2.csail.mit.edu/models_places365/resnet50_places365.pth.tar",
    mib=93,
)
CLIP = WeightFile(
    "clip-vit-large-patch14",
    "CLIP ViT-L/14, for Emo-A, Sem-D and the alignment with texts: a folder, or a .safetensors file",
    "https://huggingface.co/openai/clip-vit-large-patch14",
    aliases=("clip-vit-large-patch14.safetensors",),
    mib=1631,
)
WEIGHTS: tuple[WeightFile, ...] = (INCEPTION, ALEXNET, IMAGENET, PLACES, CLIP)
"""All that `evaluate` and `compare` need beside the base model and the probes."""

_NETWORKS = (INCEPTION, ALEXNET, IMAGENET, PLACES)
# What a checkpoint calls the dictionary of its tensors, and what wrappers put before their names.
_NESTS = ("state_dict", "model_state_dict", "model")
_WRAPPERS = ("module.", "_orig_mod.")


def hub_folder() -> Path:
    """Where torchvision and torch-fidelity keep what they fetch."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def find_weights(file: WeightFile, weights_dir: Path | None = None) -> Path | None:
    """The file, under any of its names, in `weights_dir` or else in torch's cache; None where it is not."""
    folder = hub_folder() if weights_dir is None else weights_dir
    found = (folder / name for name in (file.name, *file.aliases))
    return next((path for path in found if path.exists()), None)


def missing_weights(
    weights_dir: Path | None = None, files: Sequence[WeightFile] = WEIGHTS
) -> tuple[WeightFile, ...]:
    """Those that are not there yet. CLIP counts as missing unless it is in `weights_dir`: Hugging Face's
    cache is not looked into."""
    return tuple(file for file in files if find_weights(file, weights_dir) is None)


def fetch_networks(weights_dir: Path | None = None) -> dict[str, Path]:
    """The files of all networks of the metrics but CLIP, by name; as `fetch_weights`."""
    return fetch_weights(_NETWORKS, weights_dir)


def fetch_weights(files: Sequence[WeightFile], weights_dir: Path | None = None) -> dict[str, Path]:
    """Where files are, by name; without `weights_dir` the missing ones are downloaded.

    Raises:
        UserError: one is missing; the sentence names all that are, and where to put them.
    """
    if weights_dir is not None and not weights_dir.is_dir():
        raise UserError(f"{weights_dir}: there is no such folder of weights: correct --weights-dir.")
    if weights_dir is None and not _offline():
        for file in missing_weights(None, files):
            if not _download(file):
                break  # without a network the next one fails alike
    if missing := missing_weights(weights_dir, files):
        raise UserError(missing_sentence(missing, weights_dir))
    found = {file.name: find_weights(file, weights_dir) for file in files}
    return {name: path for name, path in found.items() if path is not None}


def clip_spec(vision: str | None, weights_dir: Path | None = None) -> str:
    """The CLIP that `base.load_vision` shall load: the one asked for, else the one in `weights_dir`, else
    OpenAI's ViT-L/14 from Hugging Face."""
    if vision is not None:
        return vision
    found = find_weights(CLIP, weights_dir) if weights_dir is not None else None
    return CLIP_SPEC if found is None else str(found)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The named tensors of a checkpoint, and nothing else of it.

    Raises:
        UserError: it holds none, or is damaged.
    """
    try:
        found = read_checkpoint(path)
    except Exception as error:  # on damaged bytes the readers raise anything
        raise damaged(path, error) from error
    if found is None or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{path} holds something else than the tensors of a model: fetch it again.")
    return found


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """The named values of a .safetensors file or of what `torch.save` wrote, of which nothing but tensors is
    unpickled; without what wrappers put around and before them. None: it holds no names.

    Raises: whatever the readers raise; on damaged bytes that is anything, from struct.error to TypeError.
    """
    if path.suffix.lower() == ".safetensors":
        from safetensors.torch import load_file

        found: Any = load_file(path)
    else:
        found = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(found, Mapping):
        found = next((found[nest] for nest in _NESTS if isinstance(found.get(nest), Mapping)), found)
    return {_unwrapped(str(name)): v for name, v in found.items()} if isinstance(found, Mapping) else None


def _unwrapped(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def fill(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load the tensors of `path` into a model of their architecture. Raises: UserError."""
    try:
        model.load_state_dict(dict(tensors))
    except (RuntimeError, TypeError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> UserError:
    """What is said of a file that is not what its name promises."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return UserError(f"{path} does not hold the weights that its name promises ({reason}): fetch it again.")


def missing_sentence(missing: Sequence[WeightFile], weights_dir: Path | None) -> str:
    """What is said of files that are not there, nor in `weights_dir` where that is given."""
    files = " and ".join(f"{file.name} (from {file.source})" for file in missing)
    where = hub_folder() if weights_dir is None else weights_dir
    named = "" if weights_dir is not None else ", or into a folder that you name with --weights-dir"
    return f"weights are missing, and could not be fetched: put {files} into {where}{named}."


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _download(file: WeightFile) -> bool:
    digest = re.search(r"-([0-9a-f]{8,})\.", file.name)
    hub_folder().mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(
            file.source, str(hub_folder() / file.name), digest.group(1) if digest else None, progress=False
        )
    except Exception:  # no network, no room, a proxy's page instead of the file
        return False
    return True
