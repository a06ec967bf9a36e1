"""ops/utils/signals.py: what signals do, in processes of their own."""

import os
import signal
import subprocess
import sys

import pytest
from helpers.launch import ROOT

from ops.utils.errors import Stopped
from ops.utils.signals import StopRequest, defer_interrupt

TWICE = """
import time
from ops.utils.signals import StopRequest
with StopRequest() as request:
    print("ready", flush=True)
    while True:
        time.sleep(0.01)
        if request.number:
            print(request.number, flush=True)
"""
# Python ignores what the hooks around fork raise: a Ctrl-C that arrives in one of them is lost.
DURING_FORK = """
import os, signal, sys, time
from ops.utils.signals import defer_interrupt
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGINT))
try:
    with defer_interrupt():
        if not os.fork():
            os._exit(0)
        print("forked", flush=True)
    print("swallowed")
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_the_first_signal_is_noted_and_the_second_ends_the_process(number):
    with subprocess.Popen(
        [sys.executable, "-u", "-c", TWICE],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == f"{int(number)}\n"
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == -number and "Traceback" not in errors
    assert ("press Ctrl-C again" in errors) == (number == signal.SIGINT)


def test_signals_change_nothing_once_the_state_is_saved():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as request:
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.number == signal.SIGTERM
        request.is_done = True
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_interrupt_during_a_fork_is_not_lost():
    run = subprocess.run(
        [sys.executable, "-c", DURING_FORK], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert run.stdout == "forked\ninterrupted\n" and run.stderr == ""


def test_a_defer_interrupt_goes_to_the_handler_before():
    with StopRequest() as request:
        with defer_interrupt():
            os.kill(os.getpid(), signal.SIGINT)
            assert request.number == 0
        assert request.number == signal.SIGINT


def test_the_status_of_a_stopped_run():
    assert Stopped("saved").status == 75 and Stopped("saved", 130).status == 130
