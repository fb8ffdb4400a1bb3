"""A probe's file: one safetensors with the four tensors, and what the probe is in its metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files import atomic_write_bytes, canonical_json
from .probes import EmotionProbe, FloatArray, ProbeScore

FORMAT = "1"
METADATA_KEY = "coemogen_probe"


def save_probe(probe: EmotionProbe, path: Path) -> None:
    """Write a probe as safetensors, atomically; equal probes give equal bytes."""
    from safetensors.numpy import save

    facts: dict[str, object] = {
        "format": FORMAT,
        "classes": list(probe.classes),
        "backbone": probe.backbone,
        "trained_on": probe.trained_on,
        "encoder": probe.encoder,
        "licence": probe.licence,
    }
    if probe.held_out is not None:
        facts["held_out"] = {
            "accuracy": probe.held_out.accuracy,
            "pictures": probe.held_out.pictures,
            "confusion": probe.held_out.confusion.tolist(),
        }
    atomic_write_bytes(path, save(_tensors(probe), metadata={METADATA_KEY: canonical_json(facts)}))


def probe_fingerprint(probe: EmotionProbe) -> str:
    """SHA-256 of what decides a probe's answers: its classes and its four tensors."""
    digest = hashlib.sha256(canonical_json(list(probe.classes)).encode("utf-8"))
    for name, tensor in _tensors(probe).items():
        digest.update(f"\n{name} {tensor.shape}\n".encode())
        digest.update(tensor.data)
    return digest.hexdigest()


def load_probe(path: Path) -> EmotionProbe:
    """Read a probe that `save_probe` wrote, and check all of it.

    Raises:
        DataError: names the file and what is wrong with it.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).astype(np.float64) for name in file.keys()}  # noqa: SIM118
        return _checked_probe(json.loads(metadata[METADATA_KEY]), tensors)
    except OSError as error:
        raise DataError(f"The emotion probe {path} cannot be read: {error.strerror or error}.") from error
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} is not an emotion probe, or is damaged ({error}): train it again, or make one of a "
            "published head with `probe SET --check HEAD --classes ... --out FILE`."
        ) from error


def _tensors(probe: EmotionProbe) -> dict[str, FloatArray]:
    tensors = {"weight": probe.weight, "bias": probe.bias, "mean": probe.mean, "scale": probe.scale}
    return {name: np.ascontiguousarray(tensor, dtype=np.float64) for name, tensor in tensors.items()}


def _checked_probe(facts: Mapping[str, object], tensors: Mapping[str, FloatArray]) -> EmotionProbe:
    if facts["format"] != FORMAT:
        raise ValueError(f"format {facts['format']!r} is unknown")
    names = facts["classes"]
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise ValueError("the list of classes is wrong")
    width = tensors["mean"].shape[0]
    shapes = {"weight": (len(names), width), "bias": (len(names),), "mean": (width,), "scale": (width,)}
    for name, shape in shapes.items():
        if tensors[name].shape != shape or not np.isfinite(tensors[name]).all():
            raise ValueError(f"{name} is not {shape} finite numbers")
    if not (tensors["scale"] > 0).all():
        raise ValueError("scale must be positive")
    probe = EmotionProbe(
        classes=tuple(names),
        weight=tensors["weight"],
        bias=tensors["bias"],
        mean=tensors["mean"],
        scale=tensors["scale"],
        backbone=str(facts["backbone"]),
        trained_on=int(str(facts["trained_on"])),
        encoder=str(facts.get("encoder", "")),
        licence=str(facts.get("licence", "")),
    )
    held_out = facts.get("held_out")
    if not isinstance(held_out, dict):
        return probe
    confusion = np.asarray(held_out["confusion"], dtype=np.int64)
    if confusion.shape != (len(names), len(names)):
        raise ValueError("the confusion matrix has the wrong shape")
    score = ProbeScore(float(held_out["accuracy"]), int(held_out["pictures"]), confusion)
    return replace(probe, held_out=score)
