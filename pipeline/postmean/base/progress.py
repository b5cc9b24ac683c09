"""A progress line with rate and time left: rewritten in place on a terminal, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO, TypeAlias

from postmean.base.log import is_structured, log_event


class Progress:
    """Reports `done` of `total` units to stderr.

    Use as a context manager and call `update` as often as convenient. On a terminal it prints at most every 0.25 s,
    first after 0.25 s; elsewhere at most every 10 s, first after 2 s. It ends with a last line; shorter work prints
    nothing.

    Args:
        what: the task, such as "generate".
        unit: the unit counted, such as "tuples".
    """

    def __init__(self, what: str, total: int, unit: str, stream: TextIO | None = None) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._stream = stream or sys.stderr
        self._is_structured = stream is None and is_structured()
        self._terminal = self._stream.isatty() and not self._is_structured and os.environ.get("TERM") != "dumb"
        self._interval = 0.25 if self._terminal else 10.0
        self._done = self._initial = 0
        self._note = ""

    def __enter__(self) -> "Progress":
        self._start = time.monotonic()
        self._next = self._start + (0.25 if self._terminal else 2.0)
        self._printed = False
        return self

    def start_at(self, done: int) -> None:
        """Set the units done before now: the share includes them; the rate excludes them and the time until now."""
        self._done = self._initial = done
        self._start = time.monotonic()

    def update(self, done: int, note: str = "", total: int | None = None) -> None:
        """Report `done` finished units in total; `note` is shown at the end of the line.

        Args:
            total: replaces the total given at the start.
        """
        self._done, self._note = done, note
        self._total = self._total if total is None else total
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._interval
            self._print(now)

    def __exit__(self, kind: type[BaseException] | None, *_: TracebackType | BaseException | None) -> None:
        worked = self._done > self._initial and time.monotonic() - self._start >= 2.0
        if self._printed or (kind is None and worked):
            self._print(time.monotonic(), last=True)

    def _print(self, now: float, last: bool = False) -> None:
        self._printed = True
        elapsed = max(now - self._start, 1e-9)
        rate = (self._done - self._initial) / elapsed
        share = self._done / self._total if self._total else 1.0
        left = (self._total - self._done) / rate if rate > 0 and not last else None
        if self._is_structured:
            fields = {"done": self._done, "total": self._total, "unit": self._unit, "per_second": round(rate, 3)}
            log_event("progress", task=self._what, **fields, seconds_left=left, note=self._note)
            return
        line = f"{self._what}: {share:6.1%}  {self._done:,}/{self._total:,} {self._unit}  {_rate(rate)} {self._unit}/s"
        if last:
            line += f"  in {duration(elapsed)}"
        elif left is not None:
            line += f"  {duration(left)} left"
        if self._note:
            line += f"  {self._note}"
        if self._terminal:
            self._stream.write("\r\x1b[K" + line + ("\n" if last else ""))
        else:
            self._stream.write(line + "\n")
        self._stream.flush()


class NoProgress(Progress):
    """Shows nothing: the default of library functions."""

    def _print(self, now: float, last: bool = False) -> None:
        pass


ShowProgress: TypeAlias = Callable[[str, int, str], Progress]
"""Opens the progress line of one stage, given `what`, `total` and `unit`; commands pass `Progress` itself."""


def duration(seconds: float) -> str:
    """A duration as text, such as 4.2 s, 3 min 20 s, 5 h 12 min, 3 d 4 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def byte_size(count: float) -> str:
    """A size as text, such as 12.3 GB (powers of ten)."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} PB"


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
