"""The ways in: what the registry checks, and the archive it hands out, unpacked into a real ComfyUI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .server import ComfyServer
from .test_pack import NODES

# The registry's own selection: exec, eval, several statements on a line.
REGISTRY_RULES = "S102,S307,E702"


@pytest.fixture(scope="module")
def clone(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed tree with what is changed in it, since comfy-cli packs what git knows and leaves its
    archive behind.
    """
    if not (repository / ".git").exists() or shutil.which("git") is None:
        pytest.skip("comfy-cli packs what git knows, and this is no git repository")
    folder = tmp_path_factory.mktemp("clone") / "coemogen"
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost"]
    known = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=repository,
        check=True,
        capture_output=True,
    ).stdout.decode("utf-8")
    for name in filter(None, known.split("\0")):
        if (repository / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(repository / name, folder / name)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def comfy(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run comfy-cli in the clone, with settings of its own."""
    if shutil.which("comfy", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("comfy-cli is not installed: pip install comfy-cli")
    home = str(tmp_path_factory.mktemp("home"))
    environment = {**os.environ, "HOME": home, "USERPROFILE": home, "XDG_CONFIG_HOME": home, "APPDATA": home}
    environment["PATH"] = str(Path(sys.executable).parent) + os.pathsep + environment["PATH"]

    def run(*arguments: str) -> str:
        done = subprocess.run(
            ["comfy", "--skip-prompt", "--no-enable-telemetry", *arguments],
            cwd=clone,
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture(scope="module")
def archive(comfy: Callable[..., str], clone: Path) -> Iterator[zipfile.ZipFile]:
    comfy("node", "pack")
    with zipfile.ZipFile(clone / "node.zip") as packed:
        yield packed


def test_the_registry_finds_nothing_to_say(comfy: Callable[..., str], clone: Path) -> None:
    told = comfy("node", "validate")
    assert "warning" not in told.lower()
    # It leaves with 0 whatever ruff finds; here that is an error.
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", REGISTRY_RULES]
    done = subprocess.run([*ruff, "nodes", "coemogen_train", "__init__.py"], cwd=clone, capture_output=True)
    assert done.returncode == 0, done.stdout.decode()


def test_the_archive_holds_the_pack_and_not_the_workshop(archive: zipfile.ZipFile) -> None:
    names = archive.namelist()
    for needed in (
        "__init__.py",
        "requirements.txt",
        "LICENSE",
        "nodes/hilora_loader.py",
        "coemogen_train/adapter/file.py",
        "web/docs/HiLoRALoader.md",
        "workflows/emotion_to_image.json",
        "workflows/emotion_to_image.jpg",
        "locales/zh/nodeDefs.json",
    ):
        assert needed in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", ".ci/", "docs/"))]


@pytest.mark.comfyui
def test_the_archive_unpacked_is_the_pack(
    archive: zipfile.ZipFile, start_server: Callable[..., ComfyServer], tmp_path: Path
) -> None:
    archive.extractall(tmp_path / "coemogen")
    server = start_server("--cpu", pack=tmp_path / "coemogen")
    assert set(server.object_info()) >= NODES
    assert "IMPORT FAILED" not in server.log()
