"""What was asked for adds up, and the claims stay those of the beginning."""

from __future__ import annotations

from pathlib import Path

import pytest

from coemogen_train.errors import UserError
from coemogen_train.evaluate.comparison import begun as begun_module
from coemogen_train.evaluate.comparison.begun import Begun, begin


def test_a_second_command_adds_its_experiments_and_seeds(tmp_path: Path) -> None:
    begin(tmp_path, ["table"], [0, 1, 2])
    begin(tmp_path, ["semantic", "table"], [0, 1])
    told = Begun.read(tmp_path)
    assert (told.experiments, told.seeds) == (("table", "semantic"), (0, 1, 2))


def test_claims_that_change_later_are_not_taken_for_those_of_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = begin(tmp_path, ["table"], [0]).claims_sha256
    monkeypatch.setattr(begun_module, "load_claims", lambda: type("Claims", (), {"sha256": "changed"}))
    assert begin(tmp_path, ["table"], [0]).claims_sha256 == first


@pytest.mark.parametrize("content", [None, "", "[]", '{"claims_sha256": 1}'])
def test_a_folder_without_a_comparison_is_told_in_a_sentence(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "begun.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"no comparison was begun here|cannot be read"):
        Begun.read(tmp_path)
