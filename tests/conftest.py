"""What every test may count on: no network, and ComfyUI only where its place is given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Read by huggingface_hub when it is imported: a test that wants the network fails at once instead of waiting.
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root folder of this repository."""
    return Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs ComfyUI where `COMFYUI_PATH` does not say where it is."""
    if os.environ.get("COMFYUI_PATH"):
        return
    skip = pytest.mark.skip(reason="needs ComfyUI: set COMFYUI_PATH to its folder")
    for item in items:
        if "comfy" in item.keywords:
            item.add_marker(skip)
