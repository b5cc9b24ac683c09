"""Signals that end a command: the first in order, the second at once, whatever the command is doing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.runs import PATIENCE

COMMAND = """
import ctypes, os, signal, sys, threading, time
from postmean.cli import signals
from postmean.cli.signals import stopped_by_signals
signals._END_SECONDS = float(sys.argv[2])
with stopped_by_signals():
    if sys.argv[1] == "library":  # no handler of Python runs in this thread
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    try:
        if sys.argv[1] == "library":  # "ready" comes from inside the call: no Python runs after it
            ctypes.CDLL(None).system(b"echo ready; exec cat")
        print("ready", flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        print("clearing up", flush=True)
        threading.Event().wait(600 if sys.argv[1] == "stuck" else 0.5)
        print("cleared up", flush=True)
        sys.exit(7)
"""
AT_ONCE = "postmean: ended at once ({}): run the same command again to go on\n"


@contextmanager
def command(kind: str, end_seconds: float = 600.0, prefix: tuple[str, ...] = ()) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", COMMAND, kind, str(end_seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_ends_a_command_in_order_even_if_it_comes_twice(number: signal.Signals) -> None:
    with command("well") as process:
        process.send_signal(number)
        process.send_signal(number)
        assert process.communicate(timeout=PATIENCE) == ("clearing up\ncleared up\n", "")
        assert process.returncode == 7


@pytest.mark.parametrize("kind", ["stuck", "library"])
def test_a_second_signal_ends_it_at_once(kind: str) -> None:
    with command(kind) as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(1.2)
        assert process.poll() is None
        process.send_signal(signal.SIGHUP)
        process.wait(timeout=PATIENCE)  # before its standard input is closed, which would end the call
        out, err = process.communicate()
        assert "cleared up" not in out
        assert (err, process.returncode) == (AT_ONCE.format("a second signal"), 130)


@pytest.mark.parametrize("kind", ["stuck", "library"])
def test_a_command_that_does_not_end_after_a_signal_is_ended(kind: str) -> None:
    with command(kind, end_seconds=0.3) as process:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=PATIENCE)
        _, err = process.communicate()
        assert (err, process.returncode) == (AT_ONCE.format("it did not end within 0.3 s after a signal"), 130)


def test_what_is_ignored_stays_ignored() -> None:
    with command("well", prefix=("nohup",)) as process:
        process.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGTERM)
        assert "cleared up" in process.communicate(timeout=PATIENCE)[0]
