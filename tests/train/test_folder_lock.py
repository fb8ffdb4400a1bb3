"""A run's folder has one run at a time, and is free as soon as that run is gone, however it went."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from coemogen_train.errors import ConfigError
from coemogen_train.train.folder_lock import run_lock

HOLD = """
import sys
from pathlib import Path
from coemogen_train.train.folder_lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture()
def holder(tmp_path):
    """A process that holds `tmp_path / "run"` until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_and_told_of_the_first(holder, tmp_path):
    with pytest.raises(ConfigError, match=rf"in use by a running training \(process {holder.pid}\)"):
        run_lock(tmp_path / "run").__enter__()
    assert (tmp_path / "run" / ".lock.pid").exists()  # the refused one took nothing away


def test_a_killed_process_leaves_the_folder_free(holder, tmp_path):
    holder.kill()
    holder.wait()
    assert (tmp_path / "run" / ".lock.pid").exists()  # it had no time to tidy up
    with run_lock(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock.pid").read_text(encoding="utf-8") == str(os.getpid())


def test_a_process_that_ends_leaves_the_folder_free(holder, tmp_path):
    holder.communicate("")
    assert holder.returncode == 0
    with run_lock(tmp_path / "run"):
        pass


def test_a_second_run_in_the_same_process_is_refused(tmp_path):
    with run_lock(tmp_path):
        with pytest.raises(ConfigError, match=f"process {os.getpid()}"):
            run_lock(tmp_path).__enter__()
        with pytest.raises(ConfigError):  # a refusal does not loosen the lock
            run_lock(tmp_path).__enter__()
    with run_lock(tmp_path):
        pass


def test_an_error_in_the_run_frees_the_folder(tmp_path):
    with pytest.raises(RuntimeError), run_lock(tmp_path):
        raise RuntimeError
    with run_lock(tmp_path):
        pass


def test_the_number_of_the_process_is_not_relied_upon(tmp_path):
    with run_lock(tmp_path):
        (tmp_path / ".lock.pid").write_text("", encoding="utf-8")
        with pytest.raises(ConfigError, match="in use by a running training: "):
            run_lock(tmp_path).__enter__()


def test_other_folders_are_free(tmp_path):
    with run_lock(tmp_path / "a"), run_lock(tmp_path / "b"):
        pass


@pytest.mark.skipif(os.name == "nt", reason="links need a right on Windows")
def test_a_folder_is_the_same_under_another_name(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with run_lock(tmp_path / "run"), pytest.raises(ConfigError):
        run_lock(tmp_path / "link").__enter__()


def test_only_entering_makes_the_folder(tmp_path):
    lock = run_lock(tmp_path / "deep" / "run")
    assert not (tmp_path / "deep").exists()
    with lock:
        assert (tmp_path / "deep" / "run").is_dir()


def test_a_folder_that_cannot_be_is_one_sentence(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        run_lock(tmp_path / "run").__enter__()


def test_a_disk_without_locks_is_told_and_used(tmp_path, monkeypatch, caplog):
    def unsupported(self, *args, **kwargs):
        raise OSError(errno.ENOTSUP, "not supported") if os.name != "nt" else NotImplementedError

    monkeypatch.setattr("filelock.FileLock.acquire", unsupported)
    with run_lock(tmp_path):
        assert (tmp_path / ".lock.pid").exists()
    assert "knows no locks" in caplog.text
