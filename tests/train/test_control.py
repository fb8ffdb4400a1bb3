"""Signals and files finish the step or save; a second Ctrl-C does not wait."""

import os
import signal
import threading
import time

import pytest

from coemogen_train.train.control import Control

posix = pytest.mark.skipif(os.name == "nt", reason="Windows cannot send these signals to itself")


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # a chance for the interpreter to run the handler


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_asks_to_stop(tmp_path, number):
    before = signal.getsignal(number)
    with Control(tmp_path) as control:
        assert not control.stop_requested
        send(number)
        assert control.stop_requested and not control.save_requested
    assert signal.getsignal(number) is before


@posix
def test_second_ctrl_c_interrupts(tmp_path):
    with Control(tmp_path), pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)
        send(signal.SIGINT)


@posix
def test_ctrl_c_after_sigterm_interrupts_and_sigterm_after_ctrl_c_does_not(tmp_path):
    with Control(tmp_path) as control:
        send(signal.SIGINT)
        send(signal.SIGTERM)
        assert control.stop_requested
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


@posix
def test_sigusr1_asks_for_one_save(tmp_path):
    before = signal.getsignal(signal.SIGUSR1)
    with Control(tmp_path) as control:
        send(signal.SIGUSR1)
        assert control.save_requested and not control.stop_requested
        assert control.take_save()
        assert not control.take_save()
    assert signal.getsignal(signal.SIGUSR1) is before


def test_handlers_are_given_back_after_an_error(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError), Control(tmp_path):
        assert signal.getsignal(signal.SIGINT) is not before
        raise RuntimeError
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(not hasattr(signal, "SIGBREAK"), reason="Ctrl-Break is a key of Windows")
def test_ctrl_break_stops(tmp_path):
    with Control(tmp_path) as control:
        signal.raise_signal(signal.SIGBREAK)
        assert control.stop_requested


def test_a_stop_file_stops_and_is_taken_away(tmp_path):
    with Control(tmp_path) as control:
        control.poll()
        assert not control.stop_requested
        (tmp_path / "stop").write_text("at once, please", encoding="utf-8")
        control.poll()
        assert control.stop_requested and not control.save_requested
        assert not (tmp_path / "stop").exists()


def test_each_save_file_gives_one_save(tmp_path):
    with Control(tmp_path) as control:
        for _ in range(2):
            (tmp_path / "save").touch()
            control.poll()
            assert control.take_save() and not control.stop_requested
            assert not (tmp_path / "save").exists()
            control.poll()
            assert not control.take_save()


def test_files_of_an_earlier_run_are_not_obeyed(tmp_path):
    for name in ("stop", "save"):
        (tmp_path / name).touch()
    with Control(tmp_path) as control:
        control.poll()
        assert not control.stop_requested and not control.take_save()
    assert not list(tmp_path.iterdir())


def test_a_folder_of_that_name_is_no_wish(tmp_path):
    (tmp_path / "save").mkdir()
    (tmp_path / "stop").mkdir()
    with Control(tmp_path) as control:
        control.poll()
        assert not control.stop_requested and not control.take_save()


def test_a_run_whose_folder_is_not_there_is_left_alone(tmp_path):
    with Control(tmp_path / "run") as control:
        control.poll()
        assert not control.stop_requested
    assert not (tmp_path / "run").exists()


def test_in_another_thread_files_work_alone(tmp_path):
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with Control(tmp_path) as control:
            seen.append(signal.getsignal(signal.SIGINT) is before)
            (tmp_path / "stop").touch()
            control.poll()
            seen.append(control.stop_requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True, True]


def test_of_several_processes_one_looks_for_the_files_and_removes_them(tmp_path):
    (tmp_path / "stop").touch()
    with Control(tmp_path, looks=False) as other:
        other.poll()
        assert not other.stop_requested
        assert (tmp_path / "stop").is_file()
