"""`caption` killed, interrupted and shared: with a local model the very bytes of an undisturbed run, from a
server each picture once, and nothing that was answered is asked for again.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from coemogen_train.captions import Wording
from coemogen_train.data import TrainingSet, prepare_toy
from coemogen_train.data.captioning import CaptionOptions, LocalWriter, caption_set
from coemogen_train.errors import CaptionError

from ..captions.openai_server import SENTENCE, serving
from ..captions.tiny_vlm import make_llava
from .captioning import Counting, rows_by_id, run

PICTURES = 40  # of two parts
CONCURRENCY = 4
# So warm, the model leaps to and fro in its sentence: what it says hangs on the batch that a picture is in
# and its place there, since it draws by chance; and most of it can stand as a caption.
WARM = 22.0
TOKENS, BATCH, ATTEMPTS = 16, 6, 2


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """A set of toy pictures without captions; to be copied."""
    root = tmp_path_factory.mktemp("toy") / "set"
    prepare_toy(root, seed=2, train_per_emotion=PICTURES // 8, test_per_emotion=0)
    TrainingSet.open(root).write_captions([])
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return make_llava(tmp_path_factory.mktemp("models") / "rambler")


class Started:
    """The command in a process of its own, forked where that is to be had from a server with warm imports."""

    def __init__(self, root: Path, *arguments: object, **environment: object):
        known = multiprocessing.get_all_start_methods()
        context: Any = multiprocessing.get_context("forkserver" if "forkserver" in known else "spawn")
        if "forkserver" in known:
            context.set_forkserver_preload(["coemogen_train.data.captioning", "transformers.models.llava"])
        self._out = root.with_name(f"{root.name}-{len(list(root.parent.iterdir()))}.json")
        command = ["caption", str(root), "--json", *map(str, arguments)]
        variables = {name: str(value) for name, value in environment.items()}
        self._process = context.Process(target=answer, args=(command, variables, self._out), daemon=True)
        self._process.start()

    def poll(self) -> int | None:
        """The exit code, negative for a signal, None while it runs."""
        return self._process.exitcode

    def communicate(self) -> str:
        """What it said, once it has ended."""
        self._process.join(300)
        return self._out.read_text(encoding="utf-8")

    def send_signal(self, number: int) -> None:
        os.kill(self._process.pid, number)

    def told(self) -> dict:
        """Its answer."""
        said = self.communicate()
        assert self.poll() == 0, said
        return json.loads(said)


def answer(command: list[str], environment: dict[str, str], out: Path) -> None:
    """Run one of our commands in this process."""
    from coemogen_train.cli import program

    os.environ.update(environment)
    sys.stdout = out.open("w", encoding="utf-8")
    sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.exit(program.run(command))


def answers_under_way(root: Path) -> int:
    """Lines in the journals and parts of whatever is being done."""
    count = 0
    for path in root.glob(".work/caption/*/parts/*.j*"):
        try:
            count += path.read_bytes().count(b"\n")
        except FileNotFoundError:  # moved on since it was listed
            continue
    return count


def kill_when(root: Path, process: Any, answers: int, how: int = signal.SIGKILL) -> None:
    """Kill the process as soon as so many answers are on the disk."""
    deadline = time.monotonic() + 120
    while answers_under_way(root) < answers:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.002)
    process.send_signal(how)


def local(model: Path) -> tuple[object, ...]:
    few = ("--batch-size", BATCH, "--attempts", ATTEMPTS, "--max-tokens", TOKENS)
    return ("--model", model, "--device", "cpu", "--temperature", WARM, "--blind", *few)


def here(root: Path, model: Path, limit: int | None = None) -> dict:
    """What the command of `local` does, without a process of its own, which takes long to start."""
    writer = LocalWriter(model, batch_size=BATCH)
    options = CaptionOptions(Wording(TOKENS, WARM), ATTEMPTS, blind=True, limit=limit)
    return caption_set(TrainingSet.open(root), writer, options).to_dict()


@pytest.fixture(scope="module")
def undisturbed(bare, model, tmp_path_factory) -> bytes:
    root = shutil.copytree(bare, tmp_path_factory.mktemp("one") / "set")
    told = here(root, model)
    assert told["asked"] == sum(told["outcomes"].values()) == PICTURES
    assert told["blind"]["asked"] == told["captions"]["captioned"] > PICTURES / 2
    assert len({row["caption"] or row["draft"] for row in rows_by_id(root).values()}) > BATCH
    return (root / "captions.parquet").read_bytes()


def test_a_local_run_killed_and_resumed_leaves_the_bytes_of_an_undisturbed_one(
    bare, model, undisturbed, tmp_path
):
    root = shutil.copytree(bare, tmp_path / "set")
    process = Started(root, *local(model))
    kill_when(root, process, 10)
    process.communicate()
    assert process.poll() == -signal.SIGKILL
    # A budget that ends in the middle of a batch changes nothing of it either.
    told = here(root, model, limit=1)
    assert told["asked"] == 1 and told["stopped"] == "pictures"
    assert told["kept"] >= 10 and told["kept"] + told["asked"] + told["left"] == PICTURES
    told = here(root, model)
    assert told["kept"] >= 11 and told["kept"] + told["asked"] == PICTURES
    assert (root / "captions.parquet").read_bytes() == undisturbed
    assert {path.name for path in (root / ".work" / "caption").iterdir()} == {"gate.lock", "tables.lock"}


def test_processes_share_the_work_and_leave_the_bytes_of_one(bare, model, undisturbed, tmp_path):
    """Two as `accelerate launch` starts them, one of them killed, and a third that nobody launched."""
    root = shutil.copytree(bare, tmp_path / "set")
    ranks = [Started(root, *local(model), WORLD_SIZE=2, RANK=rank, LOCAL_RANK=rank) for rank in range(2)]
    kill_when(root, ranks[1], 3)
    told = [here(root, model), ranks[0].told()]
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
        process = Started(root, *through(script.url))
        kill_when(root, process, 10)
        process.communicate()
        assert process.poll() == -signal.SIGKILL
        at_kill = answers_under_way(root)
        counting.down_after = counting.requests + 15
        with pytest.raises(CaptionError, match="run the same command again to go on"):
            run(root, script.url, model="", tries=1)
        assert len(rows_by_id(root)) >= at_kill >= 10
        counting.down_after = None
        kept = len(rows_by_id(root))
        told = run(root, script.url, model="")
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
        arguments = ["caption", str(root), *map(str, through(script.url))]
        command = [sys.executable, "-m", "coemogen_train", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        kill_when(root, process, 8, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130 and "run the same command again to go on" in errors
        rows = rows_by_id(root)
        assert 8 <= len(rows) < PICTURES
        told = run(root, script.url, model="")
    assert (told["kept"], told["asked"]) == (len(rows), PICTURES - len(rows))
    assert sum(counting.answered.values()) - PICTURES <= CONCURRENCY
