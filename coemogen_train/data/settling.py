"""From judged pictures to the samples of a set: duplicates are sorted out, everything is counted and put in
order.

Done in a temporary SQLite database, so that memory does not grow with the number of pictures.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from .report import Tally

_TABLES = """
CREATE TABLE found (
    place INTEGER PRIMARY KEY, name TEXT, id TEXT, sha256 TEXT, emotion TEXT, split TEXT, image TEXT,
    notes TEXT, caption TEXT, sample TEXT, usable INTEGER DEFAULT 1);
CREATE TABLE problems (place INTEGER PRIMARY KEY, told TEXT);
"""


class Settlement:
    """Judged pictures of a source, in its order; `usable` ones are the samples. Use `settlement()`."""

    def __init__(self, database: sqlite3.Connection):
        self._db = database

    def add(self, lines: Iterable[dict[str, Any]], first_place: int) -> int:
        """Take in what `read_run` told, and return the place after it."""
        place = first_place
        for line in lines:
            if "problem" in line:
                self._problem(place, *line["problem"])
            else:
                row = line["row"]
                keys = [row[key] for key in ("id", "sha256", "emotion", "split", "image")]
                kept = (json.dumps(line["notes"]), line["caption"], json.dumps(row))
                self._db.execute(
                    "INSERT INTO found VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)",
                    (place, line["name"], *keys, *kept),
                )
            place += 1
        return place

    def sort_out_duplicates(self) -> None:
        """Keep the first of each content, and nothing of content under different emotions: no label is
        sure."""
        self._db.execute("CREATE INDEX by_content ON found (sha256, place)")
        contents = self._db.execute(
            "SELECT sha256, COUNT(DISTINCT emotion) > 1 FROM found GROUP BY sha256 HAVING COUNT(*) > 1"
        )
        for digest, conflicting in contents:
            same = self._db.execute(
                "SELECT place, name, emotion FROM found WHERE sha256 = ? ORDER BY place", (digest,)
            ).fetchall()
            if conflicting:
                under = f"under {', '.join(sorted({emotion for _, _, emotion in same}))}"
                for place, name, _ in same:
                    self._drop(place, "conflicting_duplicate", name, under)
            else:
                for place, name, _ in same[1:]:
                    self._drop(place, "duplicate", name, f"the same as {same[0][1]}")
        self._db.execute("CREATE INDEX by_id ON found (usable, id, place)")
        ids = self._db.execute("SELECT id FROM found WHERE usable GROUP BY id HAVING COUNT(*) > 1").fetchall()
        for (key,) in ids:
            same = self._db.execute(
                "SELECT place, name FROM found WHERE usable AND id = ? ORDER BY place", (key,)
            ).fetchall()
            for place, name in same[1:]:
                self._drop(place, "duplicate_id", name, f"the id {key!r} occurred before")

    @property
    def usable(self) -> int:
        """How many pictures are samples."""
        return int(self._db.execute("SELECT COUNT(*) FROM found WHERE usable").fetchone()[0])

    def count(self, tally: Tally) -> None:
        """Count problems and the notes of usable pictures, in the source's order."""
        for kind, name, _ in self.problems():
            tally.problem(kind, name)
        noted = "SELECT name, notes FROM found WHERE usable AND notes != '[]' ORDER BY place"
        for name, notes in self._db.execute(noted):
            for note in json.loads(notes):
                tally.note(note, name)

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """(kind, name, detail) of each picture that cannot be used, in the source's order."""
        for (told,) in self._db.execute("SELECT told FROM problems ORDER BY place"):
            kind, name, detail = json.loads(told)
            yield kind, name, detail

    def samples(self) -> Iterator[dict[str, Any]]:
        """Rows of tables.SAMPLES, sorted by id."""
        for (row,) in self._db.execute("SELECT sample FROM found WHERE usable ORDER BY id"):
            yield json.loads(row)

    def captions(self) -> Iterator[tuple[str, str, str]]:
        """(id, sha256, caption) of the samples that came with one, sorted by id."""
        yield from self._db.execute(
            "SELECT id, sha256, caption FROM found WHERE usable AND caption != '' ORDER BY id"
        )

    def counts(self) -> dict[tuple[str, str], int]:
        """How many samples there are of each (emotion, split)."""
        found = self._db.execute("SELECT emotion, split, COUNT(*) FROM found WHERE usable GROUP BY 1, 2")
        return {(emotion, split): number for emotion, split, number in found}

    def captioned(self) -> int:
        """How many samples came with a caption."""
        wanted = "SELECT COUNT(*) FROM found WHERE usable AND caption != ''"
        return int(self._db.execute(wanted).fetchone()[0])

    def left_over_copies(self) -> Iterator[str]:
        """Copies, relative to the set, of pictures that turned out not to be usable."""
        wanted = "SELECT image FROM found GROUP BY image HAVING MAX(usable) = 0"
        yield from (image for (image,) in self._db.execute(wanted))

    def _drop(self, place: int, kind: str, name: str, detail: str) -> None:
        self._db.execute("UPDATE found SET usable = 0 WHERE place = ?", (place,))
        self._problem(place, kind, name, detail)

    def _problem(self, place: int, kind: str, name: str, detail: str) -> None:
        self._db.execute("INSERT INTO problems VALUES (?, ?)", (place, json.dumps([kind, name, detail])))


@contextmanager
def settlement() -> Iterator[Settlement]:
    """A settlement whose database is gone afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="coemogen-") as folder,
        closing(sqlite3.connect(Path(folder) / "found.sqlite", isolation_level=None)) as database,
    ):
        # Nothing here outlives the process, so nothing needs to survive it.
        database.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_TABLES}")
        yield Settlement(database)
