"""Checkpoints and pictures under fire: what a disk, a copy or a stranger left of them."""

from __future__ import annotations

import io
import json
import logging
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from coemogen_train.data.images import ImageLimits, ImageProblem, decode_rgb
from coemogen_train.errors import DataError
from coemogen_train.files import sha256_file
from coemogen_train.train.checkpoint import Checkpoint, load_newest, save_checkpoint

from .cases import Case, chance_of
from .table_files import picture
from .tables import cut_or_longer, flipped, odd_letters, run_of_bytes
from .values import odd_name, odd_value, places_of

_MANIFEST, _STATE = "manifest.json", "state.json"
_LIMITS = ImageLimits(max_pixels=1 << 20, max_bytes=1 << 22)


class CheckpointTarget:
    """`load_newest` over a folder of two checkpoints, the newer of which was tampered with."""

    def __init__(self, seed: int, work: Path) -> None:
        shutil.rmtree(work, ignore_errors=True)
        self._seed, self._folder, self._good = seed, work / "folder", work / "good"
        for step in (1, 2):
            tensors = {"trainable": {"a": torch.ones(2) * step}, "optimiser": {"b": torch.zeros(3)}}
            save_checkpoint(
                self._good, Checkpoint(step, tensors, {"step": step, "seed": 0, "settings": {}}), 2
            )
        (work / "outside.txt").write_text("not of this run", encoding="ascii")

    def case(self, number: int) -> Case:
        chance = chance_of(self._seed, "checkpoints", number)
        shutil.rmtree(self._folder, ignore_errors=True)
        shutil.copytree(self._good, self._folder)
        newest = self._folder / "step-00000002"
        mutation = chance.choice(list(_TAMPERED))
        _TAMPERED[mutation](chance, newest)
        if chance.random() < 0.3:
            shutil.rmtree(self._folder / "step-00000001")
        content = b"\n".join(
            path.name.encode("utf-8", "replace") + b": " + path.read_bytes()[:4000]
            for path in sorted(newest.glob("*"))
            if path.is_file()
        )
        return Case(mutation, self._read, DataError, content, _judge_checkpoint, mib=32)

    def _read(self) -> Checkpoint | None:
        """Read the newest; what it tells of each damaged one is no news here."""
        logger = logging.getLogger("coemogen_train.train.checkpoint")
        level = logger.level
        logger.setLevel(logging.CRITICAL)
        try:
            return load_newest(self._folder)
        finally:
            logger.setLevel(level)


def _damaged_file(chance: random.Random, folder: Path) -> None:
    file = chance.choice(sorted(folder.iterdir()))
    file.write_bytes(chance.choice((flipped, cut_or_longer, run_of_bytes))(chance, file.read_bytes()))


def _odd_json(chance: random.Random, folder: Path) -> None:
    file = folder / chance.choice((_MANIFEST, _STATE))
    value = json.loads(file.read_text(encoding="utf-8"))
    inside, key = chance.choice(places_of(value))
    if chance.random() < 0.7:
        inside[key] = odd_value(chance)
    else:
        inside[odd_name(chance)] = inside.pop(key)
    file.write_text(json.dumps(value), encoding="utf-8")
    _signed(chance, folder)


def _odd_text(chance: random.Random, folder: Path) -> None:
    file = folder / chance.choice((_MANIFEST, _STATE))
    file.write_bytes(odd_letters(chance, file.read_bytes()))
    _signed(chance, folder)


def _other_files(chance: random.Random, folder: Path) -> None:
    """Files that are gone, others that came, and a manifest that names those outside."""
    file = chance.choice(sorted(folder.iterdir()))
    match chance.randrange(4):
        case 0:
            file.unlink()
        case 1:
            file.unlink()
            file.mkdir()
        case 2:
            (folder / "more.safetensors").write_bytes(chance.randbytes(40))
            return
        case _:
            outside = folder.parent.parent / "outside.txt"
            path = folder / _MANIFEST
            manifest = json.loads(path.read_text(encoding="utf-8"))
            name = chance.choice(("../../outside.txt", str(outside), "../step-00000001/state.json", "\0", ""))
            manifest["files"][name] = sha256_file(outside)
            path.write_text(json.dumps(manifest), encoding="utf-8")
            return
    _signed(chance, folder)


def _signed(chance: random.Random, folder: Path) -> None:
    """Mostly a manifest that fits what is there, so that what lies behind it is read."""
    if chance.random() < 0.7 and (folder / _STATE).is_file():
        files = {
            f.name: sha256_file(f) for f in sorted(folder.iterdir()) if f.is_file() and f.name != _MANIFEST
        }
        if chance.random() < 0.9 and not (folder / _MANIFEST).is_dir():
            (folder / _MANIFEST).write_text(json.dumps({"format": 1, "files": files}), encoding="utf-8")


def _judge_checkpoint(found: Any) -> str:
    if not isinstance(found, Checkpoint):
        return f"this is no checkpoint: {found!r:.200}"
    known = {"trainable", "optimiser"}.issuperset(found.tensors)
    return "" if known and type(found.step) is int else f"step {found.step!r:.50}, {sorted(found.tensors)}"


_TAMPERED: dict[str, Callable[[random.Random, Path], None]] = {
    "damaged file": _damaged_file,
    "odd JSON": _odd_json,
    "odd text": _odd_text,
    "other files": _other_files,
}


class PictureTarget:
    """`decode_rgb`: bytes of pictures give RGB or an ImageProblem."""

    def __init__(self, seed: int, work: Path) -> None:
        self._seed, image = seed, Image.open(io.BytesIO(picture(1)))
        forms = (
            ("PNG", "RGBA", {}),
            ("PNG", "P", {}),
            ("PNG", "I;16", {}),
            ("JPEG", "RGB", {}),
            ("JPEG", "CMYK", {}),
            ("JPEG", "RGB", {"progressive": True}),
            ("GIF", "P", {"save_all": True, "append_images": [image.rotate(90)]}),
            ("WEBP", "RGBA", {}),
            ("TIFF", "RGB", {"compression": "tiff_lzw"}),
            ("TIFF", "RGB", {}),
            ("BMP", "RGB", {}),
            ("PPM", "RGB", {}),
        )
        self._originals: dict[str, bytes] = {}
        for number, (form, mode, options) in enumerate(forms):
            out = io.BytesIO()
            shown = image.convert("L").convert("I").convert("I;16") if mode == "I;16" else image.convert(mode)
            shown.save(out, form, **options)
            self._originals[f"{form} {mode} {number}"] = out.getvalue()

    def case(self, number: int) -> Case:
        chance = chance_of(self._seed, "pictures", number)
        name, raw = chance.choice(list(self._originals.items()))
        for _ in range(chance.choice((1, 1, 2))):
            raw = chance.choice((flipped, cut_or_longer, run_of_bytes))(chance, raw) or b"\0"
        form = name.split(" ")[0]
        return Case(form, lambda: decode_rgb(raw, _LIMITS), ImageProblem, raw, _judge_picture, mib=48)


def _judge_picture(given: Any) -> str:
    image = given[0]
    return "" if image.mode == "RGB" and min(image.size) >= _LIMITS.min_side else f"odd: {image!r}"
