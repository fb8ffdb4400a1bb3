"""When another process counts as lost: it is silent, a step hangs, or a connection is broken."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from coemogen_train.train import peers as peers_module
from coemogen_train.train.peers import ALONE, PeerGone, Peers
from coemogen_train.train.signs_of_life import SignsOfLife


class Work:
    """A piece of communication that is done when it has been looked at so often."""

    def __init__(self, looks: float):
        self._left, self.waited = looks, False

    def is_completed(self) -> bool:
        self._left -= 1
        return self._left < 0

    def wait(self) -> None:
        self.waited = True


def two(silent=(), stopping=False) -> Peers:
    made = Peers()
    made.count = 2
    made.hurried = lambda: stopping
    made._signs = SimpleNamespace(silent=lambda: list(silent))
    return made


NEVER = float("inf")


def test_a_wait_ends_when_the_others_have_come():
    work = Work(3)
    two()._finish(work, hurry=True, seconds=60)
    assert work.waited


def test_however_patient_a_wait_ends_when_another_is_silent():
    with pytest.raises(PeerGone, match="process 1, 3"):
        two(silent=[1, 3])._finish(Work(NEVER), hurry=False)


def test_a_step_is_waited_for_so_long_and_less_when_the_run_is_to_stop(monkeypatch):
    with pytest.raises(PeerGone, match="not answered"):
        two()._finish(Work(NEVER), hurry=True, seconds=0.01)
    monkeypatch.setattr(peers_module, "_HURRY", 0.01)
    with pytest.raises(PeerGone, match="not answered"):
        two(stopping=True)._finish(Work(NEVER), hurry=True, seconds=60)
    # Where one process works alone the others wait, also when somebody has asked to stop.
    two(stopping=True)._finish(Work(10), hurry=False)


def test_a_process_is_silent_after_its_time_and_not_before(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")
    assert SignsOfLife(0, 3, patience=60).silent() == []
    assert SignsOfLife(0, 3, patience=-1).silent() == [1, 2]
    monkeypatch.delenv("MASTER_ADDR")
    assert SignsOfLife(0, 3, patience=-1).silent() == []  # nobody can be heard


def test_a_broken_connection_is_told_from_a_fault_of_our_own():
    gloo = "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:3942"
    peers = two()
    assert peers.is_loss(RuntimeError(gloo))
    assert peers.is_loss(PeerGone("no sign of life from process 1"))
    assert peers.is_loss(torch.distributed.DistBackendError("the communicator was aborted"))
    assert not peers.is_loss(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not peers.is_loss(torch.cuda.OutOfMemoryError("CUDA out of memory"))
    assert not peers.is_loss(OSError("No space left on device"))
    assert not ALONE.is_loss(RuntimeError(gloo))
