"""Rows brought together by a key, on disk where they are many."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from operator import itemgetter
from typing import Any


def grouped(rows: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, list[Any]]]:
    """Yield each key with its rows (what JSON can hold), keys and rows in the order of their appearance."""
    # "" is a database of its own that goes to a temporary file when it outgrows SQLite's cache.
    with closing(sqlite3.connect("", isolation_level=None, check_same_thread=False)) as database:
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("CREATE TABLE item (key BLOB, value TEXT)")
        database.execute("BEGIN")
        database.executemany(
            "INSERT INTO item VALUES (?, ?)",
            ((key.encode("utf-8", "surrogatepass"), json.dumps(value)) for key, value in rows),
        )
        database.execute("COMMIT")
        database.execute("CREATE INDEX by_key ON item (key)")
        ordered = database.execute(
            "SELECT key, value FROM item JOIN (SELECT key, MIN(rowid) AS first FROM item GROUP BY key) "
            "USING (key) ORDER BY first, item.rowid"
        )
        for key, group in itertools.groupby(ordered, key=itemgetter(0)):
            yield key.decode("utf-8", "surrogatepass"), [json.loads(value) for _, value in group]
