"""Ctrl-C and SIGTERM finish the step; a second Ctrl-C does not wait."""

import os
import signal
import time

import pytest

from coemogen_train.train.signals import StopSignals

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows cannot send these signals to itself")


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # a chance for the interpreter to run the handler


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_asks_to_stop(number):
    before = signal.getsignal(number)
    with StopSignals() as signals:
        assert not signals.requested
        send(number)
        assert signals.requested
    assert signal.getsignal(number) is before


def test_second_ctrl_c_interrupts():
    with StopSignals(), pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)
        send(signal.SIGINT)
