"""filter killed at any moment, or shared by processes, leaves what one undisturbed run leaves."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coemogen_train.data import TrainingSet, prepare

from .conftest import noise_image, tree_bytes

SCRIPT = """
import sys, time, zlib
import numpy as np
import torch
from coemogen_train.data import TrainingSet, filter_set
from coemogen_train.data.sharedwork import Crew

class SlowClip:
    fingerprint = "slow"

    def encode_images(self, images):
        rows = [np.asarray(image.resize((2, 2)), dtype=np.float32).reshape(-1) - 100 for image in images]
        return torch.from_numpy(np.stack(rows))

    def encode_texts(self, texts):
        time.sleep(float(sys.argv[2]))
        seeds = [zlib.crc32(text.encode()) for text in texts]
        rows = torch.stack([torch.randn(12, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        return rows + len(texts) * 1e-3  # as kernels do: the last digits depend on the batch

report = filter_set(TrainingSet.open(sys.argv[1]), 0.2, SlowClip(), crew=Crew.from_environment())
print(report.scored, report.dropped, flush=True)
"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 300 captioned pictures, which are some parts."""
    folder = tmp_path_factory.mktemp("sets")
    rows = ["image,emotion,caption,split"]
    (folder / "photos").mkdir()
    for number in range(300):
        noise_image(number, 16, 16).save(folder / "photos" / f"{number}.png")
        emotion = ("awe", "fear", "anger")[number % 3]
        rows.append(f"photos/{number}.png,{emotion},picture number {number},train")
    (folder / "table.csv").write_text("\n".join(rows), encoding="utf-8")
    prepare(folder / "table.csv", folder / "set")
    return folder / "set"


@pytest.fixture(scope="module")
def undisturbed(plain: Path) -> dict[str, bytes]:
    """What one run leaves."""
    copy = plain.parent / "undisturbed"
    shutil.copytree(plain, copy)
    process = start(copy, 0)
    assert process.communicate(timeout=300)[0].split() == [b"300", b"60"]
    return finished(copy)


@pytest.fixture
def copied(plain: Path, tmp_path: Path) -> Iterator[Path]:
    # Beside the other, so that the pictures are found the same way.
    copy = plain.parent / tmp_path.name
    shutil.copytree(plain, copy)
    yield copy
    shutil.rmtree(copy)


def start(folder: Path, seconds: float, index: int = 0, count: int = 1) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "RANK": str(index), "WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(folder), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)


def finished(root: Path) -> dict[str, bytes]:
    return {name: data for name, data in tree_bytes(root).items() if not name.startswith(".")}


def parts(folder: Path) -> int:
    return len(list(folder.glob("cache/similarities-*/[0-9]*.npy")))


def wait_for(parts_done: int, folder: Path, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 200
    while parts(folder) < parts_done:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("after", [1, 3])
def test_a_killed_run_goes_on_to_the_same_bytes(
    copied: Path, undisturbed: dict[str, bytes], after: int
) -> None:
    process = start(copied, 1.0)
    wait_for(after, copied, process)
    process.send_signal(signal.SIGKILL if os.name != "nt" else signal.SIGTERM)
    process.wait()
    assert not (copied / "similarities.parquet").exists() and not (copied / "filter.html").exists()
    assert start(copied, 0).communicate(timeout=300)[0].split() == [b"300", b"60"]
    assert finished(copied) == undisturbed


def test_two_processes_answer_alike_and_leave_the_same_bytes(
    copied: Path, undisturbed: dict[str, bytes]
) -> None:
    both = [start(copied, 0.3, index, 2) for index in range(2)]
    assert [process.communicate(timeout=300)[0].split() for process in both] == [[b"300", b"60"]] * 2
    assert finished(copied) == undisturbed
    assert len(TrainingSet.open(copied).samples("train", kept_only=True)) == 240


def test_one_of_two_processes_may_die(copied: Path, undisturbed: dict[str, bytes]) -> None:
    first, second = (start(copied, 0.5, index, 2) for index in range(2))
    wait_for(1, copied, first)
    first.kill()
    first.wait()
    assert second.communicate(timeout=300)[0].split() == [b"300", b"60"]
    assert finished(copied) == undisturbed
