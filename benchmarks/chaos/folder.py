"""A run to be disturbed: its set, its settings, what it leaves, and whether what lies there is whole."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from safetensors import SafetensorError, safe_open

from benchmarks.chaos.launch import Condition, Training
from coemogen_train.adapter.file import load_adapter
from coemogen_train.data import TrainingSet, prepare_toy
from coemogen_train.data.digests import DigestSet
from coemogen_train.data.shards import Parts, Shard, ShardStore
from coemogen_train.errors import UserError
from coemogen_train.files import PART_PREFIX
from coemogen_train.train.checkpoint import find_fault

STEPS, KEPT = 36, 3
_SETTINGS = {
    **{"base": "toy", "vision": "toy", "resolution": 64, "flip": "false", "steps": STEPS, "batch_size": 4},
    **{"rank": 2, "hidden": 128, "warmup_steps": 5, "learning_rate": 0.001, "v_dropout": 0.2},
    **{"log_every": 2, "save_every": 3, "keep_checkpoints": KEPT, "validate_every": 12, "preview_every": 24},
    **{"preview_columns": 1, "preview_steps": 4, "gaussian_components": 1},
}
# Of no account: locks, unfinished work, and what people write to steer.
_PASSING = {".lock", ".lock.pid", ".work", "stop", "save"}


@dataclass(frozen=True)
class Folder:
    """One run and the set that is its own: `root/set`, `root/run`; what it said stands in `root/logs`."""

    root: Path

    @property
    def set(self) -> Path:
        return self.root / "set"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def cache(self) -> Path:
        return self.set / "cache"

    @property
    def step(self) -> int:
        """The last step in the history; 0 before the first was read."""
        try:
            lines = (self.run / "history.jsonl").read_text(encoding="utf-8").splitlines()
            return int(json.loads(lines[-1])["step"]) if lines else 0
        except (OSError, ValueError, KeyError):
            return 0

    @property
    def checkpoints(self) -> list[Path]:
        """The checkpoints, oldest first."""
        return sorted((self.run / "checkpoints").glob("step-*"))

    @property
    def saved(self) -> int:
        """The step of the newest checkpoint; 0 where there is none."""
        return int(self.checkpoints[-1].name.split("-")[1]) if self.checkpoints else 0

    def shards(self, kind: str) -> list[Path]:
        """The files of the cache's store of that kind, such as "latents"."""
        return sorted(self.cache.glob(f"{kind}-*/*.safetensors"))

    def train(
        self, resume: bool = True, own: bool = False, under: Condition | None = None, **changes: object
    ) -> Training:
        """Start the training, or go on with it. changes: of its settings."""
        settings = {"set": self.set, **_SETTINGS, **changes}
        pairs = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        more = ["--resume"] if resume else []
        number = len(list((self.root / "logs").glob("*.txt")))
        log = self.root / "logs" / f"{number:03d}.txt"
        return Training(["train", *pairs, "--out", str(self.run), "--json", *more], log, own, under)

    def copy(self, root: Path) -> Folder:
        """The same in another place, where nothing is yet."""
        shutil.copytree(self.root, root)
        return Folder(root)

    def drop(self) -> None:
        """Remove it."""
        shutil.rmtree(self.root, ignore_errors=True)


def make_folder(root: Path) -> Folder:
    """A folder with a small toy set and nothing else yet."""
    prepare_toy(root / "set", 0, train_per_emotion=20, val_per_emotion=1, test_per_emotion=0)
    return Folder(root)


def when(training: Training, comes: Callable[[], bool], poll: float = 0.001) -> bool:
    """Wait until something has come; False where the training ended before."""
    while not comes():
        if training.code is not None:
            return comes()
        time.sleep(poll)
    return True


def result(folder: Folder) -> dict[str, str]:
    """SHA-256 of all that a run leaves, and of its set with the cache, by path: what must be equal however
    it was disturbed. Settings name the folder, and who is stopped saves at other steps too: these are not.
    """
    found = {}
    for path in sorted(folder.root.rglob("*")):
        name = path.relative_to(folder.root)
        if path.is_file() and not _passing(name) and _is_result(name):
            found[name.as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def unlike(folder: Folder, whole: dict[str, str]) -> list[str]:
    """What a run left otherwise than the undisturbed one, whose result is `whole`."""
    found = result(folder)
    return sorted(name for name in {*found, *whole} if found.get(name) != whole.get(name))


def damaged(folder: Folder) -> list[str]:
    """Every file under a final name that is not whole, with its fault."""
    faults = []
    for path in sorted(folder.root.rglob("*")):
        name = path.relative_to(folder.root)
        if name.parts[0] == "logs" or _passing(name):
            continue
        if (fault := _fault(path)) is not None:
            faults.append(f"{name.as_posix()}: {fault}")
    return faults


def _passing(name: Path) -> bool:
    return any(part in _PASSING or part.startswith(PART_PREFIX) for part in name.parts) or (
        name.suffix == ".lock"
    )


def _is_result(name: Path) -> bool:
    if "checkpoints" in name.parts:
        return int(name.parts[2].split("-")[1]) == STEPS and name.suffix == ".safetensors"
    return name.parts[0] != "logs" and name.name != "settings.json"


def _fault(path: Path) -> str | None:
    """What is wrong with a file or a checkpoint, None where nothing is."""
    try:
        if path.is_dir():
            return find_fault(path) if path.parent.name == "checkpoints" else None
        if path.parent.parent.name == "checkpoints":
            return None  # its folder's manifest says it
        if path.parent.parent.name == "cache":
            return None if _shard_is_whole(path) else "not a whole shard"
        if path.suffix == ".safetensors":
            load_adapter(path)
        elif path.suffix == ".jsonl":
            text = path.read_text(encoding="utf-8")
            [json.loads(line) for line in text.splitlines()]
            return "its last line is torn" if text and not text.endswith("\n") else None
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".png":
            with Image.open(path) as image:
                image.load()
        elif path.suffix == ".parquet":
            TrainingSet.open(path.parent)
    except (OSError, ValueError, KeyError, SafetensorError, UserError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _shard_is_whole(path: Path) -> bool:
    store, shard = store_of(path)
    return store.is_whole(shard)


def store_of(path: Path) -> tuple[ShardStore, Shard]:
    """The store that a shard's header names, and the shard as it was planned."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["coemogen_cache"])
    store = ShardStore(path.parent, header["key"], Parts(DigestSet(())))
    return store, Shard(path, tuple(header["members"]))
