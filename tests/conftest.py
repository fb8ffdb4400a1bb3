"""What every test may count on: no network, and ComfyUI and Chromium only where they are found."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .comfyui.installation import NotHere, find_chromium, missing

# Read by huggingface_hub when it is imported: a test that wants the network fails at once instead of waiting.
os.environ["HF_HUB_OFFLINE"] = "1"
# A shell's background job ignores Ctrl-C, and so would the commands that tests start and stop by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Several workers of `-n` share the cores; set before anything imports torch.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root folder of this repository."""
    return _ROOT


@pytest.fixture
def chromium() -> Iterator[Any]:
    """A Chromium for pages that need no ComfyUI."""
    try:
        find_chromium()
    except NotHere as reason:
        pytest.skip(str(reason))
    from .comfyui.front_end import chromium as started

    with started() as browser:
        yield browser


class _NoPackage:
    """The root is no package of tests: pytest would import its `__init__.py`, which is ComfyUI's door."""

    @staticmethod
    @pytest.hookimpl
    def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Dir | None:
        return pytest.Dir.from_parent(parent, path=path) if path == _ROOT else None


def pytest_configure(config: pytest.Config) -> None:
    # A hook of this file would see the folders below it alone.
    config.pluginmanager.register(_NoPackage())


def pytest_cmdline_main(config: pytest.Config) -> None:
    """With `-n`, a worker gets whole files, and one of them all of ComfyUI's, whose servers are shared."""
    if getattr(config.option, "dist", "no") == "load":
        config.option.dist = "loadgroup"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs Chromium as needing ComfyUI too, and skip what cannot run here."""
    for item in items:
        markers = {marker.name for marker in item.iter_markers()} & {"comfyui", "browser"}
        if "browser" in markers:
            item.add_marker("comfyui")
        if reason := missing(markers):
            item.add_marker(pytest.mark.skip(reason=reason))
        item.add_marker(pytest.mark.xdist_group("comfyui" if markers else str(item.path)))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line at the end says what was left out, and what to set."""
    told = {missing({"comfyui"}), missing({"comfyui", "browser"})} - {None, ""}
    reports = terminalreporter.stats.get("skipped", [])
    reasons = (str(report.longrepr[2]).removeprefix("Skipped: ") for report in reports if report.longrepr)
    for reason, count in Counter(reason for reason in reasons if reason in told).items():
        terminalreporter.write_line(f"{count} tests left out: {reason}", yellow=True)
