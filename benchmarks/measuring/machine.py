"""On what a figure was measured: the machine, its load, and the versions that matter."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import psutil
import torch

_LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "peft", "safetensors")


def describe(device: torch.device | None = None, before: list[float] | None = None) -> dict[str, Any]:
    """Name the processor, its cores and memory, the device, the versions, and how busy the machine is.

    before: the load that counts, read when a benchmark had not loaded the machine itself; None: as it is now.
    """
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "device": device_name(device),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _LIBRARIES},
        "load": before or load(),
    }


def load() -> list[float]:
    """How many processes wanted to compute, in the last 1, 5 and 15 minutes."""
    return [round(mean, 2) for mean in psutil.getloadavg()]


def in_a_line(told: dict[str, Any]) -> str:
    """What `describe` gave, for a note under a plot or a table."""
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items() if version)
    return (
        f"{told['processor']}, {told['cores']} cores ({told['threads']} threads), {told['memory_gib']} GiB, "
        f"{told['device']}; {told['system']}, Python {told['python']}, {versions}; load {told['load'][0]}"
    )


def device_name(device: torch.device | None) -> str:
    if device is None or device.type == "cpu":
        return "no GPU"
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name} ({properties.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda})"
    return str(device)


def processor() -> str:
    """The processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        return named[0] if named else platform.machine()
    except OSError:
        return platform.processor() or platform.machine()


def best_device() -> torch.device:
    """The device that benchmarks run on unless told: a GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fault_of(device: torch.device) -> str | None:
    """Why nothing can be measured on a device, for people; None: it is there."""
    if device.type == "cuda":
        there = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not there:
            return "torch finds no such GPU here (no driver, or torch without CUDA); use --device cpu."
        if (device.index or 0) >= there:
            return f"there is no such GPU; the last here is cuda:{there - 1}."
    elif device.type == "mps" and not torch.backends.mps.is_available():
        return "torch finds no such GPU here; use --device cpu."
    elif device.type not in ("cpu", "mps"):
        return "benchmarks know cpu, cuda and mps."
    return None


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None
