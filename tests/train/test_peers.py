"""When another process counts as lost: it is silent, a step hangs or fails, or a connection is broken."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace

import pytest
import torch

from coemogen_train.train import peers as peers_module
from coemogen_train.train import signs_of_life
from coemogen_train.train.peers import ALONE, PeerGone, Peers, keep_nccl_from_ending_us
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


class Store:
    """The launch's store. broken: the looks at which it does not answer."""

    def __init__(self, broken=()):
        self.signs, self._looks, self._broken = {}, 0, broken

    def add(self, key: str, number: int) -> int:
        if number:
            self._looks += 1
        if self._looks in self._broken:
            raise RuntimeError("Connection reset by peer")
        self.signs[key] = self.signs.get(key, 0) + number
        return self.signs[key]


def two(silent=(), stopping=False) -> Peers:
    made = Peers()
    made.count = 2
    made.hurried = lambda: stopping
    made._signs = SimpleNamespace(silent=lambda: list(silent))
    return made


def watching(monkeypatch, store, looks: int, patience: float = 60.0, count: int = 3) -> SignsOfLife:
    """The signs of the first process after so many looks at the store, or connection attempts."""
    signs = SignsOfLife(0, count, patience)
    pauses = iter(range(looks - 1))
    monkeypatch.setattr(signs_of_life, "_reach_store", store)
    monkeypatch.setattr(signs._done, "wait", lambda _: next(pauses, None) is None and signs.stop())
    signs.run()
    return signs


NEVER = float("inf")


def test_a_wait_ends_when_the_others_have_come():
    work = Work(3)
    two()._wait(work, seconds=60)
    assert work.waited


def test_however_patient_a_wait_ends_when_another_is_silent():
    with pytest.raises(PeerGone, match="process 2 of 2"):
        two(silent=[1])._wait(Work(NEVER))


def test_a_step_is_waited_for_so_long_and_less_when_the_run_is_to_stop(monkeypatch):
    with pytest.raises(PeerGone, match="not answered"):
        two()._wait(Work(NEVER), seconds=0.01)
    monkeypatch.setattr(peers_module, "_HURRY", 0.01)
    with pytest.raises(PeerGone, match="not answered"):
        two(stopping=True)._wait(Work(NEVER), seconds=60)
    # Where one process works alone the others wait, also when somebody has asked to stop.
    two(stopping=True)._wait(Work(10))


def test_what_this_device_itself_still_computes_is_nobodys_silence(monkeypatch):
    monkeypatch.setattr(peers_module, "_HURRY", 0)
    busy = two(stopping=True)
    busy._computed = SimpleNamespace(query=lambda: False)
    busy._wait(Work(10), seconds=0)
    busy._computed = SimpleNamespace(query=lambda: True)
    with pytest.raises(PeerGone, match="not answered"):
        busy._wait(Work(10), seconds=0)


def test_an_exchange_that_has_completed_and_failed_moves_nothing(monkeypatch):
    peers, tally = two(), torch.tensor([1.0, 2.0])
    monkeypatch.setattr(peers_module.dist, "all_reduce", lambda tensor, async_op: Work(0))
    with pytest.raises(PeerGone, match="failed"):
        peers.exchange(tally)

    def both(tensor, async_op):
        tensor *= 2
        return Work(0)

    monkeypatch.setattr(peers_module.dist, "all_reduce", both)
    assert peers.exchange(tally).tolist() == [2.0, 4.0]


def test_what_each_has_said_is_gathered_by_its_number():
    """Whatever its length."""
    given: dict[int, torch.Tensor] = {}
    met = Barrier(2, timeout=60)

    def gathered(index: int, value: object) -> list:
        def added(tensor: torch.Tensor) -> torch.Tensor:
            given[index] = tensor
            met.wait()
            both = given[0] + given[1]
            met.wait()
            return both

        peers = two()
        peers.index, peers.sum = index, added
        return peers.gather(value)

    said = ["short", ["a longer one, Grüße", None]]
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(gathered, range(2), said)) == [said, said]


def test_a_process_is_silent_after_its_time_and_not_before(monkeypatch):
    store = Store()
    assert watching(monkeypatch, lambda _: store, looks=2).silent() == []
    assert watching(monkeypatch, lambda _: store, looks=2, patience=-1).silent() == [1, 2]
    assert store.signs["coemogen/signs_of_life/0"] == 4


def test_where_the_store_is_never_reached_nobody_is_silent(monkeypatch, caplog):
    def refuse(patience):
        raise RuntimeError("use_libuv was requested but PyTorch was built without libuv support")

    assert watching(monkeypatch, refuse, looks=9, patience=-1).silent() == []
    (told,) = caplog.messages
    assert "libuv" in told


def test_a_store_that_did_not_answer_for_once_is_tried_again(monkeypatch, caplog):
    store, reached = Store(broken=[2, 4]), []
    watching(monkeypatch, lambda _: reached.append(store) or store, looks=5)
    assert len(reached) == 3
    assert store.signs["coemogen/signs_of_life/0"] == 3
    assert len(caplog.records) == 1


def test_a_broken_connection_is_told_from_a_fault_of_our_own():
    gloo = "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:3942"
    peers = two()
    peers._exchanged = True
    assert peers.tells_of_loss(RuntimeError(gloo))
    assert peers.tells_of_loss(PeerGone("no sign of life from process 1"))
    assert peers.tells_of_loss(torch.distributed.DistBackendError("the communicator was aborted"))
    assert not peers.tells_of_loss(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not peers.tells_of_loss(torch.cuda.OutOfMemoryError("CUDA out of memory"))
    assert not peers.tells_of_loss(OSError("No space left on device"))
    assert not ALONE.tells_of_loss(RuntimeError(gloo))


def test_how_a_run_was_set_up_is_no_loss():
    peers, aborted = two(), torch.distributed.DistBackendError("NCCL communicator was aborted on rank 0")
    assert not peers.tells_of_loss(aborted)  # nothing was ever exchanged
    peers._exchanged = True
    assert peers.tells_of_loss(aborted)
    for fault in ("Duplicate GPU detected : rank 0 and rank 1", "unhandled cuda error", "invalid usage"):
        assert not peers.tells_of_loss(torch.distributed.DistBackendError(f"NCCL error in: a.cpp, {fault}"))


def test_what_somebody_has_set_for_nccl_stays(monkeypatch):
    name = "TORCH_NCCL_ASYNC_ERROR_HANDLING"
    for value, launcher, expected in [(None, None, "2"), ("3", None, "3"), ("1", None, "1"), ("1", "x", "2")]:
        for key, given in ((name, value), ("TORCHELASTIC_RUN_ID", launcher)):
            monkeypatch.delenv(key, raising=False)
            if given is not None:
                monkeypatch.setenv(key, given)
        keep_nccl_from_ending_us()
        assert os.environ[name] == expected
