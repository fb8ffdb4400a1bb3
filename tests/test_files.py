"""Promises of coemogen_train.files: a file is whole or absent, equal content is equal bytes."""

import hashlib
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from coemogen_train.files import (
    atomic_path,
    atomic_write_bytes,
    atomic_write_text,
    canonical_json,
    sha256_file,
    sweep_parts,
)


def test_written_bytes_are_read_back_and_no_part_file_stays(tmp_path):
    target = tmp_path / "deep" / "Größe 图.bin"
    atomic_write_bytes(target, b"\x00\xff")
    assert target.read_bytes() == b"\x00\xff"
    assert [p.name for p in target.parent.iterdir()] == [target.name]


def test_text_is_utf8_with_its_own_line_ends(tmp_path):
    atomic_write_text(tmp_path / "a.txt", "ä\n图\r\n")
    assert (tmp_path / "a.txt").read_bytes() == "ä\n图\r\n".encode()


def test_error_inside_the_block_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    atomic_write_text(target, "old")
    with pytest.raises(RuntimeError, match="stop"), atomic_path(target) as part:
        part.write_text("half", encoding="utf-8")
        raise RuntimeError("stop")
    assert target.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        pass


def test_part_file_keeps_the_suffix_and_stays_short(tmp_path):
    with atomic_path(tmp_path / ("n" * 240 + ".parquet")) as part:
        assert part.suffix == ".parquet"
        assert part.parent == tmp_path
        part.write_bytes(b"x")


def _write_and_hang(target: str) -> None:
    with atomic_path(target) as part:
        part.write_bytes(b"half")
        Path(target + ".started").write_bytes(b"")
        time.sleep(60)


def test_killed_writer_leaves_no_target_and_its_part_is_swept(tmp_path):
    target = tmp_path / "a.bin"
    writer = multiprocessing.get_context("spawn").Process(target=_write_and_hang, args=(str(target),))
    writer.start()
    deadline = time.monotonic() + 30
    while not (tmp_path / "a.bin.started").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    writer.kill()
    writer.join()
    assert not target.exists()
    assert sweep_parts(tmp_path) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.bin.started"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permission bits")
def test_written_file_has_ordinary_permissions(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    atomic_write_bytes(tmp_path / "atomic", b"")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_sha256_file_equals_hashlib(tmp_path):
    data = os.urandom((1 << 20) + 7)
    (tmp_path / "a").write_bytes(data)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_canonical_json_is_sorted_tight_and_unescaped():
    assert canonical_json({"b": [1, 2.5], "a": "ü"}) == '{"a":"ü","b":[1,2.5]}'


def test_canonical_json_refuses_nan():
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))
