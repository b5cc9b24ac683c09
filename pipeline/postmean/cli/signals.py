"""Signals that end a command."""

import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from postmean.fleet.ray_folder import end_at_once

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_END_SECONDS = 60.0
"""Deadline for a command to end by itself after the first signal."""
_SAME_SECONDS = 1.0
"""Signals this close are one: `timeout`, job managers and closing terminals signal a process and then its group."""


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP act like Ctrl-C: actors are ended, committed shards stay, the same command resumes.

    A second signal ends the process at once with all that it started, even if a library blocks this thread; so does
    the first one if its deadline passes. Signals that are ignored, as under nohup, stay ignored. Call it in the main
    thread.
    """
    is_stopped = False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal is_stopped
        if not is_stopped:  # later ones are for the watcher: they must not interrupt the clearing up
            is_stopped = True
            raise KeyboardInterrupt

    listening, told = os.pipe()
    os.set_blocking(told, False)
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    caught = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    # the kernel's signal itself writes to the pipe: Python's handlers wait until the main thread is back from a library
    wakeup = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(listening, caught), name="postmean-signals", daemon=True).start()
    try:
        for number in caught:
            signal.signal(number, stop)
        yield
    finally:
        for number in caught:
            signal.signal(number, before[number])
        signal.set_wakeup_fd(wakeup)
        os.close(told)  # ends the watcher


def _watch(listening: int, caught: list[signal.Signals]) -> None:
    """Count signals until the other end of the pipe is closed; end the process at the second or at the deadline."""
    first = None
    with suppress(OSError), open(listening, "rb", buffering=0) as pipe:
        while True:
            left = None if first is None else max(0.0, first + _END_SECONDS - time.monotonic())
            if not select.select([pipe], [], [], left)[0]:
                _end(f"it did not end within {_END_SECONDS:g} s after a signal")
            number = pipe.read(1)
            if not number:
                return
            if number[0] in caught:
                now = time.monotonic()
                if first is None:
                    first = now
                elif now - first >= _SAME_SECONDS:
                    _end("a second signal")


def _end(why: str) -> None:
    end_at_once()
    with suppress(OSError):
        if select.select([], [2], [], 0)[1]:  # a terminal may be stopped
            os.write(2, f"postmean: ended at once ({why}): run the same command again to go on\n".encode())
    os._exit(130)
