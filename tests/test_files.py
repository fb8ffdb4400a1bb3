"""Promises of coemogen_train.files: a file is whole or absent, equal content is equal bytes."""

import errno
import hashlib
import multiprocessing
import os
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from coemogen_train.data.tensor_files import write_tensors
from coemogen_train.files import (
    append_text,
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


@pytest.fixture
def no_file_longer_than():
    """Within it the system refuses what makes a file longer than so many bytes, as a full disk would."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def limited(size: int):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


def test_lines_that_a_disk_refuses_in_the_middle_are_taken_back(tmp_path, no_file_longer_than):
    file = tmp_path / "history.jsonl"
    append_text(file, "one\n")
    with no_file_longer_than(6), pytest.raises(OSError) as caught:
        append_text(file, "two\n")
    assert caught.value.filename == str(file)
    append_text(file, "three\n")
    assert file.read_bytes() == b"one\nthree\n"


def test_a_disk_that_refuses_is_told_with_the_final_name(tmp_path, no_file_longer_than):
    target = tmp_path / "a.bin"
    with no_file_longer_than(6), pytest.raises(OSError) as caught:
        atomic_write_bytes(target, b"1234567")
    assert caught.value.filename == str(target) and not list(tmp_path.iterdir())


def test_tensors_that_a_disk_refuses_are_an_error_of_the_disk(tmp_path, no_file_longer_than):
    with no_file_longer_than(100), pytest.raises(OSError) as caught, atomic_path(tmp_path / "a.bin") as part:
        write_tensors(part, {"a": torch.zeros(1000)})
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path / "a.bin"))


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
