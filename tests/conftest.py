"""What every test may count on: no network, and ComfyUI and Chromium only where they are found."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from .comfyui.installation import missing

# Read by huggingface_hub when it is imported: a test that wants the network fails at once instead of waiting.
os.environ["HF_HUB_OFFLINE"] = "1"
# A shell's background job ignores Ctrl-C, and so would the commands that tests start and stop by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_ROOT = Path(__file__).resolve().parents[1]
_REASON = pytest.StashKey[str]()
_LEFT_OUT = pytest.StashKey[Counter[str]]()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root folder of this repository."""
    return _ROOT


class _NoPackage:
    """The root is no package of tests: pytest would import its `__init__.py`, which is ComfyUI's door."""

    @staticmethod
    @pytest.hookimpl
    def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Dir | None:
        return pytest.Dir.from_parent(parent, path=path) if path == _ROOT else None


def pytest_configure(config: pytest.Config) -> None:
    # A hook of this file would see the folders below it alone.
    config.pluginmanager.register(_NoPackage())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs Chromium as needing ComfyUI too, and skip what cannot run here."""
    for item in items:
        markers = {marker.name for marker in item.iter_markers()} & {"comfyui", "browser"}
        if "browser" in markers:
            item.add_marker("comfyui")
        if reason := missing(markers):
            item.stash[_REASON] = reason
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Count what is left out of the tests that were asked for."""
    reasons = (item.stash.get(_REASON, None) for item in session.items)
    session.config.stash[_LEFT_OUT] = Counter(reason for reason in reasons if reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """One line at the end says what was left out, and what to set."""
    for reason, count in config.stash.get(_LEFT_OUT, Counter()).items():
        terminalreporter.write_line(f"{count} tests left out: {reason}", yellow=True)
