"""Before anything is loaded, every process must be able to begin and see the same folders."""

from __future__ import annotations

import platform
from types import SimpleNamespace

import pytest

from coemogen_train.errors import ConfigError, DataError
from coemogen_train.train import same_folders
from coemogen_train.train.peers import ALONE, Peers
from coemogen_train.train.same_folders import begin_together, check_seen


class Two(Peers):
    """The first of two processes; what the other one says is given, in its turn."""

    def __init__(self, *answers):
        super().__init__()
        self.count, self._answers = 2, list(answers)

    def meet(self):
        pass

    def gather(self, value):
        return [value, self._answers.pop(0)]


def refuse():
    raise DataError("sets/mine: there is no such set.")


def test_what_another_machine_cannot_do_is_told_with_its_name():
    def told(*answer) -> str:
        with pytest.raises(ConfigError) as refused:
            begin_together(Two(answer), lambda: SimpleNamespace(fingerprint="a"))
        return str(refused.value)

    sentence = "sets/mine: there is no such set."
    assert told("node7", sentence, True).startswith(f"node7, process 2 of 2: {sentence} All machines")
    # No folder seen from elsewhere would help.
    assert told("node7", "tokens: 0 is too few.", False) == "node7, process 2 of 2: tokens: 0 is too few."
    assert told(platform.node(), sentence, True).endswith(sentence)


def test_ones_own_mistake_comes_first():
    with pytest.raises(DataError, match="no such set"):
        begin_together(Two(("node7", "another sentence.", True)), refuse)
    with pytest.raises(DataError, match="no such set"):
        begin_together(ALONE, refuse)


def test_another_set_under_the_same_name_is_refused():
    start = SimpleNamespace(fingerprint="a", config=SimpleNamespace(set="sets/mine"))
    with pytest.raises(ConfigError, match=r"^node7: sets/mine is another training set there than on"):
        begin_together(Two(("node7", None, False), "b"), lambda: start)
    assert begin_together(Two(("node7", None, False), "a"), lambda: start) is start


def test_on_one_machine_no_set_is_compared():
    assert begin_together(Two((platform.node(), None, False)), lambda: "start") == "start"


def test_a_machine_that_does_not_see_the_runs_folder_is_named(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"^node7 does not see the run's folder .* all machines of a run"):
        check_seen(Two("x", ("node7", False)), tmp_path)
    assert not list(tmp_path.iterdir())
    check_seen(Two("x", ("node7", True)), tmp_path)
    monkeypatch.setattr(same_folders, "_SECONDS", 0)
    assert not same_folders._comes(tmp_path / "missing")
