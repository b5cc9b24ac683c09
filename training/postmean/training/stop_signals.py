"""Signals that ask a trainer to save a checkpoint and end, so that the same command goes on later."""

import os
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from postmean.base.errors import PostmeanError

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
_SAME_SECONDS = 1.0
"""Signals this close are one."""


class TrainingStopped(PostmeanError):
    """A signal ended the training; the same command goes on. The exit code is 128 and the signal's number.

    Args:
        where: continues the sentence "stopped by SIGTERM".
    """

    def __init__(self, where: str, number: int) -> None:
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name}{where}: run the same command again to go on")
        self.exit_code = 128 + number


class Interrupted(BaseException):
    """Raised where a signal ends the work at once; no `except Exception` on the way takes it for a failure."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class StopSignals:
    """Takes the signals within a `with` block; in another thread than the main one they stay as they are.

    A signal ends the work at once by `Interrupted`, or within `deferred` is kept in `received` for the loop to see.
    A second one ends the process at once, unless it comes within a second: a scheduler may send one by two ways.
    """

    def __init__(self) -> None:
        self.received = 0
        """Number of the signal; 0: none."""
        self._at = 0.0
        self._deferred = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        try:
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                    self._before[number] = signal.signal(number, self._take)
        except ValueError:  # not the main thread
            pass
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: TracebackType | BaseException | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Generator[None, None, None]:
        """Within this block the work goes on until the loop has looked at `received`."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _take(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.received:
            self.received, self._at = number, now
            if not self._deferred:
                raise Interrupted(number)
        elif now - self._at >= _SAME_SECONDS:  # checkpoints appear whole or not at all
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
