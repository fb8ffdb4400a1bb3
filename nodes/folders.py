"""Where users put their files: models/coemogen for adapters, models/coemogen_captioners for captioners."""

from __future__ import annotations

import logging
import os

import folder_paths

ADAPTERS = "coemogen"
CAPTIONERS = "coemogen_captioners"


def register_folders() -> None:
    """Make both folders known to ComfyUI, beside those that extra_model_paths.yaml already named."""
    for key in (ADAPTERS, CAPTIONERS):
        own = os.path.join(folder_paths.models_dir, key)
        folder_paths.add_model_folder_path(key, own)
        try:
            os.makedirs(own, exist_ok=True)
        except OSError as error:  # a read-only installation; users' other folders serve as well
            logging.warning("CoEmoGen: %s cannot be made (%s)", own, error)
    # A new folder lists every file until it is told its extensions; its list of paths may hold the user's.
    paths, _ = folder_paths.folder_names_and_paths[ADAPTERS]
    folder_paths.folder_names_and_paths[ADAPTERS] = (paths, {".safetensors"})


def shown_folders(key: str) -> str:
    """The folders of a kind, for messages."""
    return " or ".join(folder_paths.get_folder_paths(key))
