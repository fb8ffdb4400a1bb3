"""Commands killed while they write: run again, they leave the bytes of a run that nobody killed."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.data_kills import kill_often, victims
from tests.captions.tiny_vlm import make_llava

KILLS, PICTURES = 2, 150
# What the commands spend their first seconds on. Where processes can be forked, it is imported once.
PRELOADED = [
    "coemogen_train.base.load",
    "coemogen_train.base.vision",
    "coemogen_train.data.cache",
    "coemogen_train.data.captioning",
    "coemogen_train.data.filter",
    "coemogen_train.data.sources",
    "diffusers.models.autoencoders.autoencoder_kl",
    "diffusers.models.unets.unet_2d_condition",
    "diffusers.schedulers.scheduling_ddim",
    "transformers.models.clip.modeling_clip",
    "transformers.models.llama.modeling_llama",
    "transformers.models.llava.modeling_llava",
    "transformers.models.llava.processing_llava",
]


def command(arguments: Sequence[str]) -> None:
    """Run one of our commands in this process, silently."""
    from coemogen_train.cli import program

    for stream in ("stdout", "stderr"):
        setattr(sys, stream, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    sys.exit(program.run(arguments))


class Forked:
    """A command in a process that a server with warm imports forked; elsewhere in one of its own."""

    context: Any = None

    def __init__(self, arguments: Sequence[str]):
        if Forked.context is None:
            known = multiprocessing.get_all_start_methods()
            Forked.context = multiprocessing.get_context("forkserver" if "forkserver" in known else "spawn")
            if "forkserver" in known:
                Forked.context.set_forkserver_preload(PRELOADED)
        self._process = Forked.context.Process(target=command, args=([*arguments, "--json"],), daemon=True)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int:
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kills")


@pytest.fixture(scope="module")
def model(work: Path) -> Path:
    return make_llava(work / "model")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["prepare", "caption", "filter", "cache"])
def test_a_killed_command_run_again_leaves_an_undisturbed_runs_bytes(
    work: Path, model: Path, name: str
) -> None:
    victim = next(one for one in victims(work, PICTURES, model, Forked) if one.name == name)
    _, kills = kill_often(victim, work, Forked, KILLS)
    assert [kill.differing for kill in kills] == [()] * KILLS
    assert any(kill.hit for kill in kills), "every run had ended before it was to be killed"
