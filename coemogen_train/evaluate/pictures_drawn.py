"""Pictures of an adapter for measuring: so many of each emotion, in a folder, drawn once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..adapter.file import Adapter
from ..base.generate import generate_from_adapter
from ..base.model import BaseModel
from ..base.sampling import SamplingSettings
from ..errors import DataError
from ..files import atomic_path, atomic_write_text, canonical_json

DRAWN_FILE = "drawn.json"
_STRIDE = 100_000  # seeds between two runs of pictures, so that no two pictures share one
_TOGETHER = 48

Progress = Callable[[str, int, "int | None"], None]


@dataclass(frozen=True)
class _Run:
    """Pictures of one emotion and one prompt: their numbers among the emotion's, and the first one's seed."""

    emotion: int
    prompt: str
    numbers: tuple[int, ...]
    seed: int


def draw_pictures(
    base: BaseModel,
    adapter: Adapter,
    count: int,
    folder: Path,
    seed: int,
    settings: SamplingSettings,
    prompts: Sequence[str] = ("{emotion}",),
    progress: Progress | None = None,
) -> dict[str, list[Path]]:
    """Draw `count` pictures of each emotion into `folder`/<emotion>/<number>.png; what is there is kept.

    Picture i of an emotion has prompt i modulo their number (`prompt_of`).

    Returns:
        By emotion the files of these `count` pictures; the folder may hold more, of a larger request.

    Raises:
        DataError: the folder holds pictures of another adapter or other settings.
    """
    facts = _facts(base, adapter, count, seed, settings, prompts)
    _claim(folder, facts)
    names = adapter.info.taxonomy.names
    done, total = 0, count * len(names)
    for run in _runs(len(names), count, seed, prompts):
        for start in range(0, len(run.numbers), _TOGETHER):
            numbers = run.numbers[start : start + _TOGETHER]
            files = [_file(folder, names[run.emotion], number) for number in numbers]
            if not all(file.exists() for file in files):
                rows = torch.eye(len(names))[[run.emotion] * len(files)]
                drawn = generate_from_adapter(base, adapter, rows, run.seed + start, settings, run.prompt)
                for file, picture in zip(files, drawn, strict=True):
                    with atomic_path(file) as part:
                        picture.save(part, format="PNG")
            done += len(files)
            if progress is not None:
                progress("drawing", done, total)
    return {name: [_file(folder, name, number) for number in range(count)] for name in names}


def _file(folder: Path, emotion: str, number: int) -> Path:
    return folder / emotion / f"{number:05d}.png"


def prompt_of(number: int, prompts: Sequence[str]) -> str:
    """The prompt of an emotion's picture of that number, in the order of the files: each in its turn."""
    return prompts[number % len(prompts)]


def _runs(emotions: int, count: int, seed: int, prompts: Sequence[str]) -> list[_Run]:
    runs: list[_Run] = []
    for emotion in range(emotions):
        for turn, prompt in enumerate(prompts):
            numbers = tuple(range(turn, count, len(prompts)))
            runs.append(_Run(emotion, prompt, numbers, seed + _STRIDE * len(runs)))
    return runs


def _facts(
    base: BaseModel,
    adapter: Adapter,
    count: int,
    seed: int,
    settings: SamplingSettings,
    prompts: Sequence[str],
) -> dict[str, Any]:
    """What the pictures depend on; not how many are drawn at a time, nor how many of them there are."""
    sampling = {name: value for name, value in asdict(settings).items() if name != "batch_size"}
    facts = {"adapter": adapter.checksum, "base": base.name, "seed": seed, "prompts": list(prompts)}
    told: dict[str, Any] = json.loads(canonical_json({**facts, "sampling": sampling}))
    return told


def _claim(folder: Path, facts: dict[str, Any]) -> None:
    file = folder / DRAWN_FILE
    if file.exists():
        try:
            known = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = None
        if known != facts:
            raise DataError(
                f"{folder} holds pictures of another adapter or with other settings: name another --out, or "
                "remove the folder."
            )
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder} holds other files already: name another --out.")
    atomic_write_text(file, canonical_json(facts) + "\n")
