"""What a cell depends on, told by content: sets, pictures, weights. Names, places and times are no keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from ...base.load import toyworld_weights
from ...data.samples import TrainingSet
from ...files import atomic_write_text, sha256_file

_TABLES = ("samples.parquet", "captions.parquet", "similarities.parquet")
_WEIGHTS = (".safetensors", ".bin", ".ckpt", ".json", ".txt")


def of_set(training_set: TrainingSet) -> str:
    """A hash of a set's tables: pictures by content, captions, verdicts of the filter."""
    files = [training_set.root / name for name in _TABLES]
    told = "".join(f"{file.name} {sha256_file(file)}\n" for file in files if file.exists())
    return hashlib.sha256(told.encode("ascii")).hexdigest()


def of_files(paths: Iterable[Path]) -> str:
    """A hash of files' contents in their order, whatever they are called."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(sha256_file(path).encode("ascii"))
    return digest.hexdigest()


class WeightHashes:
    """Hashes of models by what a setting calls them. Those of large files are kept in `file`, as long as
    size and time stay: a checkpoint of 4 GB takes many seconds to read.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def of(self, spec: str) -> str:
        """Of a file or a folder its contents; of an id on Hugging Face the id, which is all that is known."""
        path = toyworld_weights() if spec == "toy" else Path(spec)
        if path.is_file():
            return self._known([path])
        if path.is_dir():
            return self._known(sorted(p for p in path.rglob("*") if p.suffix in _WEIGHTS and p.is_file()))
        return spec

    def _known(self, paths: list[Path]) -> str:
        stats = [(str(path.resolve()), path.stat()) for path in paths]
        told = json.dumps([[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats])
        seen = hashlib.sha256(told.encode("utf-8")).hexdigest()
        kept = self._read()
        if seen not in kept:
            atomic_write_text(self._file, json.dumps({**kept, seen: of_files(paths)}, indent=1) + "\n")
            kept = self._read()
        return kept[seen]

    def _read(self) -> dict[str, str]:
        try:
            kept = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {str(key): str(value) for key, value in kept.items()} if isinstance(kept, dict) else {}
