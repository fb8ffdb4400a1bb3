"""Shards follow from the set of pictures alone, and a damaged one is never taken for whole."""

import hashlib
import os
import re
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from coemogen_train.data.digests import DigestSet, from_hex
from coemogen_train.data.shard_reader import ShardReader
from coemogen_train.data.shards import Parts, ShardStore, partition, read_contents
from coemogen_train.errors import DataError


def hashes(count: int) -> list[str]:
    return [hashlib.sha256(str(index).encode()).hexdigest() for index in range(count)]


def store_of(folder, count=10, **key) -> ShardStore:
    return ShardStore.plan(folder, "kind", {"encoder": "e", **key}, hashes(count))


def filled(store: ShardStore) -> ShardStore:
    for shard in store.shards:
        rows = [[int(digest[:4], 16)] * 3 for digest in shard.members]
        store.write(
            shard, {"x": torch.tensor(rows, dtype=torch.float32), "y": torch.zeros(len(rows), 2).half()}
        )
    return store


@pytest.mark.parametrize("count", [1, 128, 129, 1000, 5000])
def test_partition_holds_every_picture_once_in_order(count):
    groups = partition(hashes(count))
    assert [digest for group in groups for digest in group] == sorted(hashes(count))
    assert count / len(groups) <= 128
    assert max(map(len, groups)) < 2 * 128


def test_partition_does_not_depend_on_order_or_doubles():
    assert partition(reversed(hashes(300) * 2)) == partition(hashes(300))


def test_a_picture_more_touches_one_shard(tmp_path):
    before = {shard.members for shard in store_of(tmp_path, 1500).shards}
    after = {shard.members for shard in store_of(tmp_path, 1501).shards}
    assert len(after - before) == 1


def test_no_pictures_are_no_shards():
    assert partition([]) == []


@pytest.mark.parametrize("memory_limit", [0, 1 << 30])
def test_rows_are_read_by_content_hash(tmp_path, memory_limit):
    reader = ShardReader(filled(store_of(tmp_path, 300)), memory_limit)
    for digest in hashes(300):
        np.testing.assert_array_equal(reader.rows(digest, "x")[0].numpy(), [int(digest[:4], 16)] * 3)
    assert "0" * 64 not in reader


def test_equal_values_are_equal_bytes(tmp_path, snapshot):
    filled(store_of(tmp_path / "one", 300))
    filled(store_of(tmp_path / "two", 300))
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")


def test_every_damage_is_seen(tmp_path):
    store = filled(store_of(tmp_path))
    shard = store.shard(0)
    assert store.is_whole(shard)
    data = shard.path.read_bytes()
    damaged = [data[:length] for length in (0, 5, 100, len(data) - 1)] + [data + b"\0"]
    for place in range(0, len(data), 7):
        damaged.append(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
    for content in damaged:
        shard.path.write_bytes(content)
        assert not store.is_whole(shard), content[:50]
    shard.path.unlink()
    assert not store.is_whole(shard)


def test_shard_of_other_pictures_or_another_key_is_not_whole(tmp_path):
    mine = store_of(tmp_path)
    for other in (store_of(tmp_path, 11), store_of(tmp_path, 10, encoder="f")):
        filled(other)
        shard = mine.shard(0)
        shard.path.parent.mkdir(parents=True, exist_ok=True)
        shard.path.write_bytes(other.shard(0).path.read_bytes())
        assert not mine.is_whole(shard)


def test_unplanned_shards_are_removed(tmp_path):
    filled(store_of(tmp_path, 10))
    store = filled(store_of(tmp_path, 11))
    assert store.tidy() == 1
    assert [path for path in store.folder.iterdir()] == [store.shard(0).path]


def test_a_store_is_read_in_any_order_without_being_held(tmp_path):
    reader = ShardReader(filled(store_of(tmp_path, 2000)), memory_limit=0)
    for digest in sorted(hashes(2000), key=lambda digest: digest[::-1]):  # in no order of the shards
        x, y = reader.rows(digest, "x", "y")
        assert x.tolist() == [int(digest[:4], 16)] * 3 and y.tolist() == [0, 0] and y.dtype == torch.float16
    assert not reader.in_memory and not reader._held


def test_a_store_of_many_files_is_read_where_few_may_be_open(tmp_path, few_files):
    """256 on macOS, 1024 on many a Linux; a set of EmoSet's size has more shards in each of its stores."""
    stores = [ShardStore(tmp_path / kind, {"kind": kind}, Parts(DigestSet(hashes(150)), 1)) for kind in "ab"]
    readers = [ShardReader(filled(store), memory_limit=0) for store in stores]
    assert all(len(store) > 75 for store in stores)
    with few_files(20):
        kept = [(digest, reader.rows(digest, "x")[0]) for reader in readers for digest in hashes(150)]
        gathered = [rows for _, rows in readers[0].gather(from_hex(hashes(150)), "x")]
    assert all(row.tolist() == [int(digest[:4], 16)] * 3 for digest, row in kept)
    assert len(gathered) == len(stores[0])


@pytest.fixture
def few_files():
    """Within it, this process can open no more than so many files more."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def limited(more: int):
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.open(os.devnull, os.O_RDONLY)  # the system gives the lowest number that is free
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + more, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)

    return limited


@pytest.mark.parametrize("memory_limit", [0, 1 << 30])
def test_who_writes_into_a_row_does_not_write_into_the_cache(tmp_path, snapshot, memory_limit):
    reader = ShardReader(filled(store_of(tmp_path, 10)), memory_limit)
    before, digest = snapshot(tmp_path), hashes(10)[3]
    reader.rows(digest, "x")[0].fill_(-1)
    for _, rows in reader.gather(from_hex([digest]), "x"):
        rows.fill_(-1)
    assert reader.rows(digest, "x")[0].tolist() == [int(digest[:4], 16)] * 3
    assert snapshot(tmp_path) == before


def test_a_shard_that_goes_while_it_is_in_use_is_told_in_a_sentence(tmp_path):
    """Another run that plans other members takes away what it does not have, whoever reads it."""
    mine, other = filled(store_of(tmp_path, 300)), store_of(tmp_path, 301)
    reader = ShardReader(mine, memory_limit=0)
    gone = {shard.path for shard in mine.shards} - {shard.path for shard in other.shards}
    filled(other).tidy()
    [path] = gone
    lost = next(shard for shard in mine.shards if shard.path == path).members
    told = f"{re.escape(path.name)}: .*No such file.*run this again \\(a training with --resume\\)"
    for ask in (lambda: reader.rows(lost[0], "x"), lambda: list(reader.gather(from_hex(lost), "x"))):
        with pytest.raises(DataError, match=told) as caught:
            ask()
        assert "\n" not in str(caught.value)
    kept = next(digest for digest in hashes(300) if digest not in lost)
    assert reader.rows(kept, "x")[0][0] == int(kept[:4], 16)
    next(iter(other.shards)).path.write_bytes(b"1")
    with pytest.raises(DataError, match="no longer those that were written"):
        for digest in hashes(301):
            ShardReader(other, memory_limit=0).rows(digest, "x")


def test_a_byte_that_changes_while_a_store_is_in_use_is_told_and_never_read(tmp_path):
    store = filled(store_of(tmp_path, 10))
    reader, [digest, *_] = ShardReader(store, memory_limit=0), hashes(10)
    good, path = reader.rows(digest, "x")[0], store.shard(0).path
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match=f"{re.escape(path.name)}: .*no longer those that were written"):
        reader.rows(digest, "x")
    path.write_bytes(whole)  # as another process makes it anew
    assert torch.equal(reader.rows(digest, "x")[0], good)


def test_a_held_store_needs_its_files_no_more(tmp_path):
    reader = ShardReader(filled(store_of(tmp_path, 300)), memory_limit=0)
    reader.hold()
    for shard in reader.store.shards:
        shard.path.unlink()
    assert all(reader.rows(digest, "x")[0][0] == int(digest[:4], 16) for digest in hashes(300))


@pytest.mark.parametrize("memory_limit", [0, 1 << 30])
def test_gathered_rows_are_those_asked_for_each_once(tmp_path, memory_limit):
    reader = ShardReader(filled(store_of(tmp_path, 500)), memory_limit)
    wanted = [*hashes(500)[::3], *hashes(500)[:10]]
    found = np.full((len(wanted), 3), np.nan)
    for which, rows in reader.gather(from_hex(wanted), "x"):
        assert np.isnan(found[which]).all()
        found[which] = rows.numpy()
    np.testing.assert_array_equal(found, [[int(digest[:4], 16)] * 3 for digest in wanted])
    assert list(reader.gather(from_hex([]), "x")) == []
    with pytest.raises(KeyError):
        list(reader.gather(from_hex([*wanted, "0" * 64]), "x"))


def test_asking_whether_a_shard_is_done_reads_it_once_while_it_is_the_same(tmp_path, monkeypatch):
    store, asked = filled(store_of(tmp_path, 300)), []
    real = ShardStore.is_whole
    monkeypatch.setattr(ShardStore, "is_whole", lambda self, shard: asked.append(shard) or real(self, shard))
    assert all(store.is_done(number) for number in range(len(store)) for _ in range(5))
    assert len(asked) == len(store)
    first = store.shard(0).path
    first.write_bytes(first.read_bytes()[:-1])
    assert not store.is_done(0) and not store.is_done(0) and len(asked) == len(store) + 1
    first.unlink()
    assert not store.is_done(0)


def test_a_writer_whose_part_file_is_swept_away_writes_again(tmp_path, monkeypatch):
    store, swept = store_of(tmp_path, 10), []
    from coemogen_train.data import shards

    def swept_once(path, tensors, metadata):
        real(path, tensors, metadata)
        if not swept:
            swept.append(store.tidy())

    real = shards.write_tensors
    monkeypatch.setattr(shards, "write_tensors", swept_once)
    filled(store)
    assert swept and store.is_done(0) and not store.has_leftovers


def test_a_header_is_read_as_the_library_reads_it_and_nothing_else_is_taken_for_one(tmp_path):
    store = filled(store_of(tmp_path, 300))
    shard = store.shard(1)
    rows = len(shard.members)
    assert read_contents(shard.path) == (shard.members, {"x": (rows, 3), "y": (rows, 2)})
    whole = shard.path.read_bytes()
    plain = b"\x02" + bytes(7) + b"{}"
    for damaged in (b"", whole[:5], whole[:100], whole[:-1], whole + b"x", b"\xff" * 64, b"[]" * 40, plain):
        shard.path.write_bytes(damaged)
        assert read_contents(shard.path) is None
    assert read_contents(tmp_path / "absent") is None
