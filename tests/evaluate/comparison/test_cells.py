"""Finished work is found again by what it depends on, and nobody does it twice."""

from __future__ import annotations

from pathlib import Path

from coemogen_train.evaluate.comparison.cells import Cells


def test_a_cell_is_known_by_all_that_it_depends_on(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    one = cells.cell("fit", method="a", settings={"rate": 1e-3, "steps": 5})
    assert one == cells.cell("fit", settings={"steps": 5, "rate": 1e-3}, method="a")
    others = [
        cells.cell("fit", method="b", settings={"rate": 1e-3, "steps": 5}),
        cells.cell("fit", method="a", settings={"rate": 2e-3, "steps": 5}),
        cells.cell("drawn", method="a", settings={"rate": 1e-3, "steps": 5}),
    ]
    assert len({one.key, *(cell.key for cell in others)}) == 4


def test_a_cell_is_done_when_it_was_finished_and_not_before(tmp_path: Path) -> None:
    cell = Cells(tmp_path).cell("fit", method="a")
    with cell.claimed() as mine:
        assert mine
        (cell.folder / "weights").write_bytes(b"half")
    assert not cell.done
    with cell.claimed() as mine:
        assert mine, "what was left unfinished can be taken again"
        cell.finish(seconds=1.5)
    assert cell.done
    assert cell.facts() == {"seconds": 1.5}
    assert (cell.folder / "depends.json").exists()


def test_a_cell_in_one_hand_cannot_be_claimed_by_another(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    with cells.cell("fit", method="a").claimed() as mine:
        assert mine
        with cells.cell("fit", method="a").claimed() as also_mine:
            assert not also_mine
    with cells.cell("fit", method="a").claimed() as free_again:
        assert free_again
