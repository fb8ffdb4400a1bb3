"""Lists of training pictures under fire: rows or a DataError, and nothing outside what was named is read."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from coemogen_train.data.prepare import PrepareOptions, prepare
from coemogen_train.data.report import Tally
from coemogen_train.data.samples import TrainingSet
from coemogen_train.data.sources import Record, SourceContext, detect_source
from coemogen_train.emotions import MIKELS, load_taxonomy
from coemogen_train.errors import DataError
from coemogen_train.files import sha256_file

from .cases import Case, chance_of
from .table_files import Listed, data_sets, parquet_of, picture
from .values import damaged_text, odd_name, odd_value, places_of

Damage = Callable[[random.Random, bytes], bytes]
_ELSEWHERE = "elsewhere.png"
# Listing shows most faults; the whole of `prepare` is tried now and then.
_WHOLE = 12


def outside(chance: random.Random) -> str:
    """A path that leads out of a data set, on one system or another."""
    up = "/".join([".."] * chance.randint(1, 4))
    return chance.choice(
        (
            f"{up}/{_ELSEWHERE}",
            f"{up}\\{_ELSEWHERE}".replace("/", "\\"),
            f"p/{up}/{_ELSEWHERE}",
            f"./{up}/./{_ELSEWHERE}",
            "/etc/hostname",
            f"//server/share/{_ELSEWHERE}",
            f"\\\\server\\share\\{_ELSEWHERE}",
            f"C:\\{_ELSEWHERE}",
            f"c:{_ELSEWHERE}",
            f"file:///{_ELSEWHERE}",
            f"~/{_ELSEWHERE}",
            f"out/{_ELSEWHERE}",
            f"{_ELSEWHERE}\0.png",
            "/dev/zero",
            "/dev/stdin",
            "",
            ".",
            "..",
            "CON",
            "p/" * 500 + _ELSEWHERE,
        )
    )


def flipped(chance: random.Random, raw: bytes) -> bytes:
    data = bytearray(raw)
    for _ in range(chance.randint(1, 6)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def cut_or_longer(chance: random.Random, raw: bytes) -> bytes:
    place = chance.randrange(len(raw))
    return chance.choice(
        (raw[:place], raw[place:], raw + raw, raw + chance.randbytes(50), b"", raw[:place] + raw)
    )


def run_of_bytes(chance: random.Random, raw: bytes) -> bytes:
    data, start = bytearray(raw), chance.randrange(len(raw))
    length = min(chance.choice((1, 8, 100)), len(raw) - start)
    data[start : start + length] = chance.choice(
        (bytes(length), b"\xff" * length, b'"' * length, b"\n" * length)
    )
    return bytes(data)


def odd_letters(chance: random.Random, raw: bytes) -> bytes:
    return damaged_text(chance, raw.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogatepass")


def paths(chance: random.Random, raw: bytes) -> bytes:
    """A picture's path that leads elsewhere, in place of one in text or JSON."""
    text, wanted = raw.decode("utf-8", "surrogateescape"), f"{chance.randrange(6)}.png"
    start = text.find(wanted)
    if start < 0:
        return flipped(chance, raw)
    while start and text[start - 1] not in '",\t\n;':
        start -= 1
    new = outside(chance)
    if raw[:1] in b"[{":
        new = json.dumps(new)[1:-1]
    end = text.find(wanted, start) + len(wanted)
    return (text[:start] + new + text[end:]).encode("utf-8", "surrogateescape")


def cells(chance: random.Random, raw: bytes) -> bytes:
    """Other cells: of any kind in JSON and Parquet, odd text, huge or with open quotes in CSV."""
    if raw[:4] == b"PAR1":
        return _odd_parquet(chance, raw)
    for form in (_json_of, _lines_of):
        with suppress(ValueError, RecursionError):
            return form(chance, raw)
    text = raw.decode("utf-8", "surrogateescape")
    lines = text.split("\n")
    row = chance.randrange(len(lines))
    parts = lines[row].split(",")
    part = chance.choice(
        (odd_name(chance), outside(chance), '"', '""', '"open', "x" * 200_000, '"' + "\n" * 50, "a;b", "=1+1")
    )
    parts[chance.randrange(len(parts))] = part
    lines[row] = ",".join(parts)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _json_of(chance: random.Random, raw: bytes) -> bytes:
    value = json.loads(raw)
    inside, key = chance.choice(places_of(value))
    inside[key] = odd_value(chance)
    return json.dumps(value).encode("utf-8")


def _lines_of(chance: random.Random, raw: bytes) -> bytes:
    rows = [json.loads(line) for line in raw.splitlines()]
    row = chance.choice(rows)
    row[chance.choice((*row, odd_name(chance)))] = chance.choice((odd_value(chance), outside(chance)))
    return "".join(json.dumps(row) + "\n" for row in rows).encode("utf-8")


def _odd_parquet(chance: random.Random, raw: bytes) -> bytes:
    """A whole Parquet file of columns that are twice there, of other kinds, empty, or without a name."""
    table = pq.read_table(pa.BufferReader(raw))
    names, columns = list(table.schema.names), [column.combine_chunks() for column in table.columns]
    place, count = chance.randrange(len(names)), len(table)
    with suppress(pa.ArrowException, UnicodeEncodeError):
        columns[place] = chance.choice(
            (
                lambda: pa.array([odd_name(chance) for _ in range(count)]),
                lambda: pa.array([outside(chance) for _ in range(count)]),
                lambda: pa.array([None] * count),
                lambda: pa.array([[1, None]] * count),
                lambda: pa.array([b"\xff\0"] * count),
                lambda: pa.array([{"bytes": None, "path": outside(chance)}] * count),
                lambda: pa.array([chance.random()] * count),
                lambda: pa.array([chance.getrandbits(62)] * count),
                lambda: pa.array(["awe"] * count).dictionary_encode(),
            )
        )()
        names[chance.randrange(len(names))] = chance.choice((*names, "image", "label", "", "a\0b", "é" * 500))
        metadata = {"huggingface": json.dumps(odd_value(chance))} if chance.random() < 0.3 else None
        made = pa.Table.from_arrays(columns, names=names).replace_schema_metadata(metadata)
        out = pa.BufferOutputStream()
        pq.write_table(made, out, row_group_size=chance.choice((1, 100)))
        return bytes(out.getvalue().to_pybytes())
    return parquet_of([{"image": outside(chance), "emotion": "awe"}])


DAMAGE: dict[str, Damage] = {
    "untouched": lambda _chance, raw: raw,
    "bits flipped": flipped,
    "cut or longer": cut_or_longer,
    "run of bytes": run_of_bytes,
    "letters": odd_letters,
    "paths": paths,
    "cells": cells,
}
"""Damage by name."""


class TableTarget:
    """Every source of `prepare`: its listing, what stands beside its pictures, and sometimes the whole."""

    def __init__(self, seed: int, work: Path) -> None:
        shutil.rmtree(work, ignore_errors=True)
        self._seed, self._sets = seed, data_sets(work / "sets")
        self._out = work / "out" / "set"
        for folder in (work, work / "sets"):
            (folder / _ELSEWHERE).write_bytes(picture(999))
        self._elsewhere = sha256_file(work / _ELSEWHERE)
        for each in self._sets.values():
            if not any(record.problem is None for record in self._read(each, True)[0]):
                raise RuntimeError(f"the good set in {each.given} is not read")

    def case(self, number: int) -> Case:
        chance = chance_of(self._seed, "tables", number)
        name, (damage, make) = chance.choice(list(self._sets)), chance.choice(list(DAMAGE.items()))
        each = self._sets[name]
        raw = make(chance, each.raw)
        whole, named = chance.randrange(_WHOLE) == 0, chance.random() < 0.5

        def run() -> tuple[list[Record], list[str], bool]:
            each.list.write_bytes(raw)
            try:
                return self._read(each, named, whole)
            finally:
                each.list.write_bytes(each.raw)

        judge = lambda given: self._judge(each, *given)  # noqa: E731 - as the others have it
        return Case(f"{name}: {damage}", run, DataError, raw, judge, seconds=3.0, mib=100)

    def _read(self, each: Listed, named: bool, whole: bool = False) -> tuple[list[Record], list[str], bool]:
        """The records, the digests of the pictures that `prepare` took, and whether they may lie anywhere."""
        kind = each.name if named else None
        source = detect_source(each.given, kind)
        taxonomy = MIKELS if source.taxonomy == "mikels" else load_taxonomy(source.taxonomy)
        context = SourceContext(taxonomy, self._out, Tally())
        records = [source.complete(record) for record in source.records(each.given, context)]
        digests: list[str] = []
        if whole:
            shutil.rmtree(self._out, ignore_errors=True)
            prepare(each.given, self._out, PrepareOptions(workers=1), kind)
            digests = [sample.sha256 for sample in TrainingSet.open(self._out).samples()]
        return records, digests, source.name == "table"

    def _judge(self, each: Listed, records: list[Record], digests: list[str], anywhere: bool) -> str:
        for record in records:
            json.dumps([record.name, record.caption, record.emotion, dict(record.attributes)])
        if anywhere:
            return ""
        top = os.path.realpath(each.given)
        for record in records:
            if record.problem is None and isinstance(record.image, Path):
                with suppress(ValueError):  # a name that no file can have
                    real = os.path.realpath(record.image)
                    if not real.startswith(top):
                        return f"it names a picture elsewhere: {real!r}"
        return "a picture from elsewhere is in the set" if self._elsewhere in digests else ""
