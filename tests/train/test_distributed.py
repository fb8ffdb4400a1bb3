"""Two processes on one machine train what one process trains."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from coemogen_train.train.config import make_config
from coemogen_train.train.loop import train
from coemogen_train.train.validation import read_validation

RANK = """
import json, sys
from coemogen_train.train.config import make_config
from coemogen_train.train.loop import train
train(make_config(json.loads(sys.argv[1])), resume="resume" in sys.argv, progress=False)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launch(settings: dict, processes: int, *how: str) -> None:
    """Start the processes as `accelerate launch --cpu` does: told who they are by the environment."""
    common = {"WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    started = []
    for rank in range(processes):
        who = {**common, "RANK": rank, "LOCAL_RANK": rank, "ACCELERATE_USE_CPU": "true"}
        environment = os.environ | {name: str(value) for name, value in who.items()}
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", RANK, json.dumps(settings), *how],
                cwd=Path(__file__).parents[2],
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    for process in started:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_two_processes_equal_one_of_twice_the_batch(settings, tmp_path):
    """Presence is that of both: an emotion that one process alone has seen is stepped by both."""
    changes = {"steps": 3, "batch_size": 2, "validate_every": 1, "ema_decay": 0.9}
    train(make_config(settings | changes | {"out": str(tmp_path / "one")}), progress=False)
    two = settings | changes | {"out": str(tmp_path / "two"), "batch_size": 1}
    launch(two, processes=2)
    one, both = (
        {
            name: tensor
            for part in ("trainable", "optimiser")
            for name, tensor in load_file(
                tmp_path / run / "checkpoints" / "step-00000003" / f"{part}.safetensors"
            ).items()
        }
        for run in ("one", "two")
    )
    assert torch.equal(one["steps.stacked"], both["steps.stacked"])
    for name in one:
        torch.testing.assert_close(
            both[name], one[name], rtol=1e-3, atol=2e-4, msg=lambda told, name=name: f"{name}: {told}"
        )
    assert (tmp_path / "two" / "adapter.safetensors").is_file()
    records = [read_validation(tmp_path / run / "validation.jsonl") for run in ("one", "two")]
    assert [record.step for record in records[1]] == [0, 1, 2, 3]
    for alone, shared in zip(*records, strict=True):
        assert shared.ldm == pytest.approx(alone.ldm, rel=1e-3)
        assert shared.emotions.keys() == alone.emotions.keys()
    # Resumed where a validation is due and one process alone knows that it was done.
    launch(two | {"steps": 4}, 2, "resume")
    assert [record.step for record in read_validation(tmp_path / "two" / "validation.jsonl")] == [
        0,
        1,
        2,
        3,
        4,
    ]
