"""ComfyUI's menus over a folder in which adapters lie that are damaged; needs no ComfyUI."""

from __future__ import annotations

import importlib
import random
import shutil
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def adapter_files(tmp_path, monkeypatch):
    """nodes/adapter_files.py with `tmp_path` as the folder of adapters."""
    stub = types.ModuleType("folder_paths")
    stub.get_filename_list = lambda _kind: sorted(path.name for path in tmp_path.iterdir())
    stub.get_full_path = lambda _kind, name: str(tmp_path / name)
    stub.get_folder_paths = lambda _kind: [str(tmp_path)]
    before = set(sys.modules)
    monkeypatch.setitem(sys.modules, "folder_paths", stub)
    for name, folder in (("a_pack", ROOT), ("a_pack.nodes", ROOT / "nodes")):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        monkeypatch.setitem(sys.modules, name, package)
    yield importlib.import_module("a_pack.nodes.adapter_files")
    for name in set(sys.modules) - before:
        if name.startswith("a_pack."):
            del sys.modules[name]


def test_damaged_adapters_leave_the_menus_whole(adapter_files, tmp_path):
    """And choosing one is refused in a sentence with its name, not in a traceback."""
    from benchmarks.fuzz.adapter_files import originals
    from benchmarks.fuzz.adapters import MUTATIONS
    from coemogen_train.emotions import MIKELS

    (tmp_path / "made").mkdir()
    good = originals(tmp_path / "made", small=True)["one Gaussian"]
    shutil.rmtree(tmp_path / "made")
    (tmp_path / "good.safetensors").write_bytes(good.raw)
    for number, mutation in enumerate(MUTATIONS.values()):
        raw = mutation(random.Random(number), good, good)
        (tmp_path / f"damaged-{number}.safetensors").write_bytes(raw)
    assert set(MIKELS.names) <= set(adapter_files.emotion_options())
    assert len(adapter_files.adapter_options()) == len(MUTATIONS) + 1
    refused = 0
    for name in adapter_files.adapter_options():
        try:
            adapter_files.read_adapter(name)
        except adapter_files.AdapterError as error:
            assert name in str(error)
            refused += 1
    assert 10 < refused <= len(MUTATIONS)
