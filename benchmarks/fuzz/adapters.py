"""Adapter files under fire: refused with AdapterError, or read as exactly what the file says."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor

from coemogen_train.adapter.file import (
    Adapter,
    describe_adapter,
    load_adapter,
    read_adapter_info,
    save_adapter,
)
from coemogen_train.errors import AdapterError

from .adapter_bytes import BYTES
from .adapter_files import INFO, METADATA, originals
from .adapter_header import HEADER
from .adapter_metadata import METADATA_LIES
from .cases import MIB, Case, chance_of

_NAME = "damaged.safetensors"
MUTATIONS = BYTES | HEADER | METADATA_LIES
# Most of what can go wrong lies behind the checksum.
_WEIGHTS = [1.0] * len(BYTES) + [2.0] * (len(HEADER) + len(METADATA_LIES))
# Slow to write and to read; what only a bomb can show it shows in a few of them.
_RARE = {"header that grows": 0.3, "metadata that grows": 0.3, "layers": 0.7, "something else": 0.3}
_SIZES = {"toy": 0.5, "toy, in half": 0.5, "large": 0.01, "large, in half": 0.01}
# The other doors to an adapter go through the same reader; now and then it is tried whether they do.
_OTHER_DOORS = 20


class AdapterTarget:
    """`load_adapter`, with files of which most carry a right checksum; small: made of small ones alone."""

    def __init__(self, seed: int, work: Path, small: bool = False) -> None:
        torch.set_num_threads(1)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        self._seed, self._path, self._again = seed, work / _NAME, work / "again.safetensors"
        self._originals = originals(work, small)
        self._original_bytes = {file.raw: name for name, file in self._originals.items()}
        self._names = list(self._originals)
        self._name_weights = [_SIZES.get(name, 1.0) for name in self._names]
        self._mutations = list(MUTATIONS)
        self._weights = [
            weight * _RARE.get(name, 1.0) for name, weight in zip(MUTATIONS, _WEIGHTS, strict=True)
        ]
        for file in self._originals.values():  # what is imported and cached once is no file's memory
            self._path.write_bytes(file.raw)
            self._judge(file.raw, load_adapter(self._path), everywhere=True)

    def case(self, number: int) -> Case:
        chance = chance_of(self._seed, "adapters", number)
        one, other = chance.choices(self._names, self._name_weights, k=2)
        mutation = chance.choices(self._mutations, self._weights)[0]
        raw = MUTATIONS[mutation](chance, self._originals[one], self._originals[other])
        self._path.write_bytes(raw)
        everywhere = number % _OTHER_DOORS == 0

        def run() -> Adapter:
            if everywhere:
                self._try_other_doors()
            return load_adapter(self._path)

        return Case(
            mutation,
            run,
            AdapterError,
            raw,
            lambda adapter: self._judge(raw, adapter, everywhere),
            _NAME,
            seconds=2.0,
            mib=16 + 2 * len(raw) / MIB,
        )

    def _try_other_doors(self) -> None:
        """What the menus of ComfyUI read: nothing but AdapterError may come out of it."""
        with suppress(AdapterError):
            read_adapter_info(self._path)

    def _judge(self, raw: bytes, adapter: Adapter, everywhere: bool) -> str:
        """What differs between a file and the adapter that was made of it, "" for nothing."""
        info = json.loads(_header(raw)[METADATA][INFO])
        if fault := _differs(_completed(info), json.loads(json.dumps(adapter.info.to_dict())), "metadata"):
            return fault
        try:
            save_adapter(adapter, self._again)
        except ValueError as error:
            # Whoever trained it told a path; it is read, and not passed on.
            return "" if "holds the path" in str(error) else f"it cannot be written: {error}"
        again = self._again.read_bytes()
        if self._original_bytes.get(raw, "half").endswith("half"):
            fault = _tensors_differ(load(raw), load(again))
        else:
            fault = "" if again == raw else "written again it has other bytes"
        if everywhere and not fault:
            described = describe_adapter(self._path)
            told = {key: described[key] for key in adapter.info.to_dict()}
            fault = "" if told == adapter.info.to_dict() else "inspect tells something else"
        return fault


def _header(raw: bytes) -> dict[str, Any]:
    length = int.from_bytes(raw[:8], "little")
    return dict(json.loads(raw[8 : 8 + length].decode("utf-8")))


def _completed(info: dict[str, Any]) -> dict[str, Any]:
    """The metadata with what the first files of format 1 lacked."""
    info["base"].setdefault("zero_terminal_snr", False)
    info.setdefault("mapper_input", "one_hot")
    for encoder in info["text_encoders"]:
        encoder["clip_skip"] = max(1, encoder["clip_skip"])
    for emotion in info["taxonomy"]["emotions"]:
        for key in ("valence", "arousal"):
            if key in emotion and emotion[key] is None:
                del emotion[key]
    return info


def _differs(wanted: Any, given: Any, where: str) -> str:
    """The first place at which two JSON values differ; 3 is 3.0, and 1 is not true."""
    if isinstance(wanted, bool) != isinstance(given, bool):
        return f"{where} is {given!r:.100}, the file says {wanted!r:.100}"
    if isinstance(wanted, dict) and isinstance(given, dict) and wanted.keys() == given.keys():
        return next((f for key in wanted if (f := _differs(wanted[key], given[key], f"{where}.{key}"))), "")
    if isinstance(wanted, list) and isinstance(given, list) and len(wanted) == len(given):
        pairs = enumerate(zip(wanted, given, strict=True))
        return next((f for n, (one, two) in pairs if (f := _differs(one, two, f"{where}.{n}"))), "")
    return "" if wanted == given else f"{where} is {given!r:.100}, the file says {wanted!r:.100}"


def _tensors_differ(wanted: dict[str, Tensor], given: dict[str, Tensor]) -> str:
    """Read by the safetensors library: the same names and numbers, in the precision of the canonical form."""
    if wanted.keys() != given.keys():
        return f"the tensors {sorted(wanted.keys() ^ given.keys())[:3]} were lost or made up"
    for name, tensor in wanted.items():
        kept = name == "gaussians.factor" or name.startswith("probe.")
        expected = tensor if kept else tensor.float()
        if given[name].dtype != expected.dtype or not torch.equal(given[name], expected):
            return f"the tensor {name!r} has other numbers than the file"
        if not expected.isfinite().all():
            return f"the tensor {name!r} has a number that is not finite"
    return ""
