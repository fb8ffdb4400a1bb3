"""Reading a source as `prepare` does: listed, then completed one by one."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from coemogen_train.data.report import NOTE_TEXTS, PROBLEM_TEXTS, Tally
from coemogen_train.data.sources import Record, SourceContext, detect_source
from coemogen_train.emotions import MIKELS, load_taxonomy


class Read:
    """What a source says: its name, the completed records by name, and the tally of notes."""

    def __init__(self, path: Path, kind: str | None, out: Path):
        source = detect_source(path, kind)
        self.kind = source.name
        self.tally = Tally()
        taxonomy = MIKELS if source.taxonomy == "mikels" else load_taxonomy(source.taxonomy)
        listed = list(source.records(path, SourceContext(taxonomy, out, self.tally)))
        assert listed == list(source.records(path, SourceContext(taxonomy, out, Tally())))
        # Records go to worker processes.
        self.records = [source.complete(pickle.loads(pickle.dumps(record))) for record in listed]  # noqa: S301
        self.by_name = {record.name: record for record in self.records}
        assert {note for record in self.records for note in record.notes} <= set(NOTE_TEXTS)
        assert set(self.tally.notes) <= set(NOTE_TEXTS)
        assert set(self.problems) <= set(PROBLEM_TEXTS)

    @property
    def problems(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for record in self.records:
            if record.problem is not None:
                found.setdefault(record.problem[0], []).append(record.name)
        return found

    @property
    def usable(self) -> list[Record]:
        return [record for record in self.records if record.problem is None]


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Read]:
    """Read a source of a format that is recognised by itself or named."""
    return lambda path, kind=None, out=None: Read(path, kind, out or tmp_path / "no such set")
