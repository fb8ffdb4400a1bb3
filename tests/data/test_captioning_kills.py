"""`caption` killed, interrupted and shared: with a local model the very bytes of an undisturbed run, from a
server each picture once, and nothing that was answered is asked for again.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from coemogen_train.data import TrainingSet, prepare_toy

from ..captions.openai_server import SENTENCE, serving
from ..captions.tiny_vlm import SENTENCE as SPOKEN
from ..captions.tiny_vlm import make_llava, make_waverer
from .captioning import Counting, rows_by_id

PICTURES = 56
CONCURRENCY = 4


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """A set of toy pictures without captions; to be copied."""
    root = tmp_path_factory.mktemp("toy") / "set"
    prepare_toy(root, seed=2, train_per_emotion=PICTURES // 8, test_per_emotion=0)
    TrainingSet.open(root).write_captions([])
    return root


@pytest.fixture(scope="module", params=["talker", "waverer"])
def model(request, tmp_path_factory) -> Path:
    """talker: it says one sentence to everything, so that there are captions to judge blindly. waverer: what
    it says hangs on the batch that a picture is in, even its place there, since it draws by chance."""
    folder = tmp_path_factory.mktemp("models") / request.param
    return make_llava(folder) if request.param == "talker" else make_waverer(folder)


def start(root: Path, *arguments: object, **environment: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "coemogen_train", "caption", str(root), "--json", *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            **{name: str(value) for name, value in environment.items()},
        },
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> dict:
    out, errors = process.communicate(timeout=300)
    assert process.returncode == code, errors
    return json.loads(out) if out else {}


def answers_under_way(root: Path) -> int:
    """Lines in the journals and parts of whatever is being done."""
    count = 0
    for path in root.glob(".work/caption/*/parts/*.j*"):
        try:
            count += path.read_bytes().count(b"\n")
        except FileNotFoundError:  # moved on since it was listed
            continue
    return count


def kill_when(root: Path, process: subprocess.Popen[str], answers: int, how: int = signal.SIGKILL) -> None:
    """Kill the process as soon as so many answers are on the disk."""
    deadline = time.monotonic() + 120
    while answers_under_way(root) < answers:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.002)
    process.send_signal(how)


def local(model: Path) -> tuple[object, ...]:
    chance = 2.0 if model.name == "waverer" else 0.0
    few = ("--batch-size", 3, "--attempts", 2, "--max-tokens", 24)
    return ("--model", model, "--device", "cpu", "--temperature", chance, *few)


@pytest.fixture(scope="module")
def undisturbed(bare, model, tmp_path_factory) -> bytes:
    root = shutil.copytree(bare, tmp_path_factory.mktemp("one") / "set")
    told = finish(start(root, *local(model), "--blind"))
    assert told["asked"] == sum(told["outcomes"].values()) == PICTURES
    assert told["blind"]["asked"] == told["captions"]["captioned"]
    texts = [row["caption"] or row["draft"] for row in rows_by_id(root).values()]
    if model.name == "talker":
        assert set(texts) == {SPOKEN.replace(" .", ".")} and told["blind"]["asked"] == PICTURES
    else:
        assert told["outcomes"]["set_aside"] > PICTURES / 2 and len(set(texts)) > PICTURES / 2
    return (root / "captions.parquet").read_bytes()


def test_a_local_run_killed_and_resumed_leaves_the_bytes_of_an_undisturbed_one(
    bare, model, undisturbed, tmp_path
):
    root = shutil.copytree(bare, tmp_path / "set")
    for answers in (4, 20):
        process = start(root, *local(model), "--blind")
        kill_when(root, process, answers)
        assert process.wait(60) == -signal.SIGKILL
    # A budget that ends in the middle of a batch changes nothing of it either.
    told = finish(start(root, *local(model), "--limit", 1))
    assert told["asked"] == 1 and told["stopped"] == "pictures"
    assert told["kept"] >= 20 and told["kept"] + told["asked"] + told["left"] == PICTURES
    told = finish(start(root, *local(model), "--blind"))
    assert told["kept"] >= 21 and told["kept"] + told["asked"] == PICTURES
    assert (root / "captions.parquet").read_bytes() == undisturbed
    assert {path.name for path in (root / ".work" / "caption").iterdir()} == {"gate.lock", "tables.lock"}


def test_processes_share_the_work_and_leave_the_bytes_of_one(bare, model, undisturbed, tmp_path):
    """Two as `accelerate launch` starts them, one of them killed, and a third that nobody launched."""
    root = shutil.copytree(bare, tmp_path / "set")
    ranks = [
        start(root, *local(model), "--blind", WORLD_SIZE=2, RANK=rank, LOCAL_RANK=rank) for rank in range(2)
    ]
    third = start(root, *local(model), "--blind")
    kill_when(root, ranks[1], 3)
    told = [finish(ranks[0]), finish(third)]
    ranks[1].communicate()
    assert all(one["asked"] + one["kept"] == PICTURES for one in told)
    assert (root / "captions.parquet").read_bytes() == undisturbed


def through(url: str) -> tuple[object, ...]:
    return ("--server", url, "--concurrency", CONCURRENCY)


def test_from_a_failing_server_each_picture_has_one_caption_whatever_is_killed(bare, tmp_path):
    root = shutil.copytree(bare, tmp_path / "set")

    def say(_picture, _body):
        time.sleep(0.02)
        return SENTENCE

    counting = Counting(say, failing=5)
    with serving(counting) as script:
        process = start(root, *through(script.url))
        kill_when(root, process, 10)
        assert process.wait(60) == -signal.SIGKILL
        at_kill = answers_under_way(root)
        counting.down_after = counting.requests + 15
        told = finish(start(root, *through(script.url), "--tries", 1), code=2)
        assert "run the same command again to go on" in told["error"]
        assert len(rows_by_id(root)) >= at_kill >= 10
        counting.down_after = None
        kept = len(rows_by_id(root))
        told = finish(start(root, *through(script.url)))
    assert (told["kept"], told["asked"], told["left"]) == (kept, PICTURES - kept, 0)
    assert sum(told["outcomes"].values()) == told["asked"] == told["outcomes"]["clean"]
    assert told["captions"]["captioned"] == len(rows_by_id(root)) == PICTURES
    assert len(counting.answered) == PICTURES
    # Asked again are only those that were under way when the process was killed.
    assert sum(counting.answered.values()) - PICTURES <= CONCURRENCY


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to another process")
def test_ctrl_c_leaves_what_was_answered_in_the_set(bare, tmp_path):
    root = shutil.copytree(bare, tmp_path / "set")

    def say(_picture, _body):
        time.sleep(0.05)
        return SENTENCE

    counting = Counting(say)
    with serving(counting) as script:
        process = start(root, *through(script.url))
        kill_when(root, process, 8, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130 and "run the same command again to go on" in errors
        rows = rows_by_id(root)
        assert 8 <= len(rows) < PICTURES
        told = finish(start(root, *through(script.url)))
    assert (told["kept"], told["asked"]) == (len(rows), PICTURES - len(rows))
    assert sum(counting.answered.values()) - PICTURES <= CONCURRENCY
