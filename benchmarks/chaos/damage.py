"""Disasters of the contents: shards, checkpoints and records that are damaged, numbers that are none."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.chaos.disasters import (
    Disaster,
    Ground,
    Wrong,
    last_sentence,
    paused_at_step,
    sentence_of,
    untouched,
)
from benchmarks.chaos.folder import Folder, damaged, result, store_of
from coemogen_train.adapter.file import load_adapter
from coemogen_train.data import TrainingSet
from coemogen_train.errors import UserError

Harm = Callable[[Path, Path], None]
"""Does harm to a file, given another of the same kind."""


def flip(file: Path, _other: Path) -> None:
    """Change a few bytes in its middle, so small that no number need be strange."""
    data = bytearray(file.read_bytes())
    for place in range(len(data) // 2, len(data) // 2 + 8):
        data[place] ^= 1
    file.write_bytes(data)


def cut(file: Path, _other: Path) -> None:
    """Keep its first half."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def remove(file: Path, _other: Path) -> None:
    """Delete it."""
    file.unlink()


def take_another(file: Path, other: Path) -> None:
    """Put another file's content in its place."""
    file.write_bytes(other.read_bytes())


HARMS: dict[str, Harm] = {"flipped": flip, "cut": cut, "deleted": remove, "of_another_shard": take_another}


def shard_before(ground: Ground, root: Path, harm: Harm) -> str:
    """A shard is damaged before the run goes on: it is made anew."""
    folder = ground.half.copy(root)
    first, second = folder.shards("latents")[:2]
    harm(first, second)
    ground.ends_equal(folder)
    return "made anew; the run ended as undisturbed"


def shard_in_use(ground: Ground, root: Path, harm: Harm) -> str:
    """A shard is damaged between two steps of a run that reads it from the disk: it ends, and names it."""
    folder = ground.half.copy(root)
    first, second = folder.shards("latents")[:2]
    training = folder.train(under="from the disk")
    paused_at_step(folder, training)
    harm(first, second)
    training.go_on()
    told = sentence_of(training)
    if first.name not in told:
        raise Wrong(f"it does not name the shard: {told}")
    ground.ends_equal(folder)
    return told


def newest_checkpoint(ground: Ground, root: Path, harm: Harm) -> str:
    """The newest checkpoint is damaged: the run goes back to the one before."""
    folder = ground.half.copy(root)
    harm(folder.checkpoints[-1] / "optimiser.safetensors", folder.checkpoints[0] / "trainable.safetensors")
    before = folder.checkpoints[-2].name
    training = folder.train()
    if training.wait() or "going back to the checkpoint before it" not in training.said:
        raise Wrong(f"it did not go back to {before}: {last_sentence(training)}")
    return _and_ended(ground, folder, f"went back to {before}")


def every_checkpoint(ground: Ground, root: Path) -> str:
    """Every checkpoint is damaged: nothing is begun over what is there."""
    folder = ground.half.copy(root)
    for checkpoint in folder.checkpoints:
        flip(checkpoint / "trainable.safetensors", checkpoint)
    before = result(folder)
    told = sentence_of(folder.train())
    if "every checkpoint is damaged" not in told:
        raise Wrong(told)
    untouched(folder, before)
    return told


def torn_record(ground: Ground, root: Path, name: str) -> str:
    """The last line of a record is torn, as by a power cut."""
    folder = ground.half.copy(root)
    with (folder.run / name).open("a", encoding="utf-8") as file:
        file.write('{"step":99,"ldm":0.1')
    ground.ends_equal(folder)
    return "passed over the torn line; the run ended as undisturbed"


def strange_numbers(ground: Ground, root: Path, kind: str, value: float, every: int) -> str:
    """Some rows of a cache are not finite, and their checksums hold: those steps are skipped and the samples
    named, or the run ends and names one; no weight is touched.

    every: one row in so many.
    """
    folder = ground.half.copy(root)
    Folder(folder.run).drop()
    poisoned = _poison(folder, kind, value, every)
    training = folder.train()
    code = training.wait()
    _weights_are_finite(folder)
    if code:
        told = sentence_of(training)
        if not any(name in told for name in poisoned):
            raise Wrong(f"it names none of the samples: {told}")
        return told
    records = _records(folder)
    skipped = [record for record in records if record["skipped"]]
    if not skipped or any(not record["samples"] for record in skipped):
        raise Wrong("no step was skipped, or no sample named")
    if innocent := {name for record in skipped for name in record["samples"]} - poisoned:
        raise Wrong(f"it named {sorted(innocent)[:3]}, which are finite")
    return f"{len(skipped)} of {len(records)} steps were skipped, each with its samples named"


def unreadable_picture(ground: Ground, root: Path) -> str:
    """A picture that can no longer be read, and is not cached yet."""
    folder = ground.clean.copy(root)
    picture = _a_picture(folder)
    whole = picture.read_bytes()
    picture.write_bytes(b"no picture")
    told = sentence_of(folder.train())
    if picture.name not in told:
        raise Wrong(f"it does not name {picture.name}: {told}")
    picture.write_bytes(whole)
    ground.ends_equal(folder)
    return told


def picture_gone(ground: Ground, root: Path) -> str:
    """A picture that is gone, and cached: it is not needed."""
    folder = ground.half.copy(root)
    picture = _a_picture(folder)
    whole = picture.read_bytes()
    picture.unlink()
    training = folder.train()
    if training.wait():
        raise Wrong(f"it could not go on: {last_sentence(training)}")
    picture.write_bytes(whole)
    return _and_ended(ground, folder, "it is cached, and not needed")


def _and_ended(ground: Ground, folder: Folder, told: str) -> str:
    ground.is_equal(folder)
    return f"{told}; the run ended as undisturbed"


def _a_picture(folder: Folder) -> Path:
    return Path(TrainingSet.open(folder.set).samples("train")[5].image)


def _poison(folder: Folder, kind: str, value: float, every: int) -> set[str]:
    """Make one row in so many of a store not finite, under a checksum that holds; gives the samples."""
    contents: set[str] = set()
    for path in folder.shards(kind):
        store, shard = store_of(path)
        tensors = load_file(path)
        for row in range(0, len(shard.members), every):
            contents.add(shard.members[row])
            for tensor in tensors.values():
                tensor[row].view(-1)[0] = value
        store.write(shard, tensors)
        if not store.is_whole(shard):
            raise Wrong("the shard with strange numbers is not whole")
    samples = TrainingSet.open(folder.set).samples()
    return {sample.id for sample in samples if sample.sha256 in contents}


def _weights_are_finite(folder: Folder) -> None:
    files = [*folder.run.rglob("trainable.safetensors"), *folder.run.rglob("optimiser.safetensors")]
    for file in files:
        if not all(torch.isfinite(tensor).all() for tensor in load_file(file).values()):
            raise Wrong(f"{file.parent.name}/{file.name} holds numbers that are not finite")
    if faults := damaged(folder):
        raise Wrong(f"damaged: {', '.join(faults)}")
    try:
        for adapter in folder.run.glob("*.safetensors"):
            load_adapter(adapter)
    except UserError as error:
        raise Wrong(str(error)) from None


def _records(folder: Folder) -> list[dict[str, Any]]:
    text = (folder.run / "history.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


DISASTERS = [
    *(Disaster(f"shard_{name}_before", partial(shard_before, harm=harm)) for name, harm in HARMS.items()),
    *(
        Disaster(f"shard_{name}_in_use", partial(shard_in_use, harm=harm), name == "flipped")
        for name, harm in HARMS.items()
    ),
    *(
        Disaster(f"newest_checkpoint_{name}", partial(newest_checkpoint, harm=HARMS[name]))
        for name in ("flipped", "cut", "deleted")
    ),
    Disaster("every_checkpoint_flipped", every_checkpoint, quick=True),
    Disaster("history_torn", partial(torn_record, name="history.jsonl")),
    Disaster("validation_torn", partial(torn_record, name="validation.jsonl")),
    Disaster("nan_in_latents", partial(strange_numbers, kind="latents", value=math.nan, every=16), True),
    Disaster("nan_in_all_latents", partial(strange_numbers, kind="latents", value=math.nan, every=1)),
    Disaster("inf_in_embeds", partial(strange_numbers, kind="image_embeds", value=math.inf, every=16)),
    Disaster("picture_unreadable", unreadable_picture),
    Disaster("picture_gone_but_cached", picture_gone),
]
