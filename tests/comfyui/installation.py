"""Where ComfyUI and Chromium are here; `python -m tests.comfyui.installation` says what is missing.

Standard library only, and quick: every run of pytest asks, and `.ci/run` does too.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CHROMIUM_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
WHAT_TO_SET = "set COMFYUI_PATH to its folder, and COMFYUI_PYTHON to its Python where that is no .venv in it"
HOW_TO_BROWSE = "pip install playwright, and chromium-headless-shell or chromium on the PATH"


class NotHere(Exception):
    """What is missing and what to do, in one line."""


@dataclass(frozen=True)
class Installation:
    """A ComfyUI that can be started.

    folder: the one with main.py. python: the interpreter it runs with. version: "0.3.64".
    """

    folder: Path
    python: Path
    version: str

    def at_least(self, *version: int) -> bool:
        """Whether it is this version or a later one: `at_least(0, 30)`."""
        return tuple(int(part) for part in re.findall(r"\d+", self.version)) >= version


@cache
def find_comfyui() -> Installation:
    """COMFYUI_PATH and COMFYUI_PYTHON, else the `.venv` in it, else comfy-cli's default workspace.

    Raises:
        NotHere: otherwise.
    """
    told = os.environ.get("COMFYUI_PATH")
    folder = Path(told).expanduser() if told else _default_workspace()
    if not (folder / "main.py").is_file():
        where = f"COMFYUI_PATH is {folder}, which has no main.py" if told else "there is no ComfyUI"
        raise NotHere(f"{where}: {WHAT_TO_SET}")
    return Installation(folder, _python_of(folder), _version_of(folder))


@cache
def find_chromium() -> Path | None:
    """The browser for Playwright to start; None for the one that Playwright brought itself.

    Raises:
        NotHere: no Playwright, or no browser.
    """
    if importlib.util.find_spec("playwright") is None:
        raise NotHere(f"there is no Playwright: {HOW_TO_BROWSE}")
    for name in CHROMIUM_NAMES:
        if found := shutil.which(name):
            return Path(found)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        if Path(playwright.chromium.executable_path).is_file():
            return None
    raise NotHere(f"there is no Chromium: {HOW_TO_BROWSE}")


def missing(markers: set[str]) -> str | None:
    """Why a test with these markers cannot run here; None where it can."""
    try:
        if markers & {"comfyui", "browser"}:
            find_comfyui()
        if "browser" in markers:
            find_chromium()
    except NotHere as error:
        return str(error)
    return None


def _default_workspace() -> Path:
    """Where comfy-cli installs ComfyUI unless it is told another place."""
    documents = ("Documents",) if sys.platform in ("win32", "darwin") else ()
    return Path.home().joinpath(*documents, "comfy", "ComfyUI")


def _python_of(folder: Path) -> Path:
    if told := os.environ.get("COMFYUI_PYTHON"):
        python = Path(shutil.which(told) or told)
        if not python.is_file():
            raise NotHere(f"COMFYUI_PYTHON is {told}, which is no file: {WHAT_TO_SET}")
        return python
    for path in (folder / ".venv" / "bin" / "python", folder / ".venv" / "Scripts" / "python.exe"):
        if path.is_file():
            return path
    raise NotHere(f"ComfyUI in {folder} has no .venv: {WHAT_TO_SET}")


def _version_of(folder: Path) -> str:
    path = folder / "comfyui_version.py"
    found = re.search(r'"([\d.]+)"', path.read_text(encoding="utf-8")) if path.is_file() else None
    return found[1] if found else "0"


def _main() -> None:
    """One line for everything that cannot be tested here, as `.ci/run` lists it."""
    for name, marker in (("ComfyUI", "comfyui"), ("Chromium", "browser")):
        reason = missing({marker})
        if reason and not (marker == "browser" and missing({"comfyui"})):
            print(f"{name} ({reason})")


if __name__ == "__main__":
    _main()
