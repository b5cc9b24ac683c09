"""Ray's calls run in one thread, with deadlines; signals reach the one that waits."""

import signal
import threading
import time

import pytest

from postmean.fleet.ray_thread import RayHangs, RayThread


def test_answers_and_errors_come_back_from_one_thread() -> None:
    thread = RayThread()
    asked = {thread.ask(threading.get_ident) for _ in range(3)}
    assert len(asked) == 1 and asked != {threading.get_ident()}

    def fail() -> None:
        raise TimeoutError("the call's own")

    with pytest.raises(TimeoutError, match="the call's own"):
        thread.ask(fail)
    assert thread.ask(lambda: 7) == 7


def test_after_a_missed_deadline_every_call_fails_at_once() -> None:
    thread, goes_on = RayThread(), threading.Event()
    with pytest.raises(RayHangs, match=r"Ray gave no answer within 0.1 s .* run the same command again"):
        thread.ask(goes_on.wait, 0.1)
    with pytest.raises(RayHangs, match=r"within 0.1 s"):
        thread.ask(lambda: None, 3600.0)
    goes_on.set()


def test_a_signal_is_handled_while_a_call_blocks() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    thread, goes_on = RayThread(), threading.Event()
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            thread.ask(goes_on.wait, 3600.0)
    finally:
        signal.signal(signal.SIGALRM, before)
    goes_on.set()
    assert thread.ask(time.monotonic) > 0, "the thread goes on with the next call"
