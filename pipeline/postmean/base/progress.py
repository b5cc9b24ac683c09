"""Progress with rate and time left: a bar in terminals and notebooks, plain lines elsewhere, events in a JSON log."""

import os
import sys
import time
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias

from postmean.base.log import is_structured, log_event

if TYPE_CHECKING:
    from tqdm.std import tqdm


class Progress:
    """Reports `done` of `total` units to stderr.

    Use as a context manager and call `update` as often as convenient. In terminals and notebooks it is a bar of tqdm,
    redrawn at most every 0.25 s, first after 0.25 s. Elsewhere it is a line at most every 10 s, first after 2 s, and a
    last line. Shorter work shows nothing.

    Args:
        what: the task, such as "generate".
        unit: the unit counted, such as "tuples".
    """

    def __init__(self, what: str, total: int, unit: str, stream: TextIO | None = None) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._stream = stream or sys.stderr
        self._is_structured = stream is None and is_structured()
        self._has_bar = not self._is_structured and (_is_terminal(self._stream) or (stream is None and _in_notebook()))
        self._bar: tqdm[Any] | None = None
        self._done = self._initial = 0
        self._note = ""

    def __enter__(self) -> "Progress":
        self._start = time.monotonic()
        self._next = self._start + 2.0
        self._printed = False
        if self._has_bar:
            self._bar = self._open_bar()
        return self

    def start_at(self, done: int) -> None:
        """Set the units done before now: the share includes them; the rate excludes them and the time until now."""
        self._done = self._initial = done
        self._start = time.monotonic()
        if self._bar is not None:
            self._bar.n = self._bar.last_print_n = self._bar.initial = done
            self._bar.start_t = self._bar.last_print_t = time.time()

    def update(self, done: int, note: str = "", total: int | None = None) -> None:
        """Report `done` finished units in total; `note` is shown at the end of the line.

        Args:
            total: replaces the total given at the start.
        """
        self._done, self._note = done, note
        self._total = self._total if total is None else total
        if self._bar is not None:
            self._bar.total = self._total
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self._bar.n)
            return
        now = time.monotonic()
        if now >= self._next:
            self._next = now + 10.0
            self._print(now)

    def __exit__(self, kind: type[BaseException] | None, *_: TracebackType | BaseException | None) -> None:
        if self._bar is not None:
            self._bar.close()
            return
        worked = self._done > self._initial and time.monotonic() - self._start >= 2.0
        if self._printed or (kind is None and worked):
            self._print(time.monotonic(), last=True)

    def _open_bar(self) -> "tqdm[Any]":
        with warnings.catch_warnings():  # in a notebook without ipywidgets tqdm warns, and draws bars of text
            warnings.simplefilter("ignore")
            from tqdm.auto import tqdm  # here: most commands are short or have no terminal

        is_sized = _has_size(self._stream)
        return tqdm(
            desc=self._what,
            total=self._total,
            unit=f" {self._unit}",
            file=self._stream,
            mininterval=0.25,
            miniters=1,
            delay=0.25,
            dynamic_ncols=is_sized,
            ncols=None if is_sized else 80,
            nrows=None if is_sized else 24,
        )

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
        self._stream.write(line + "\n")
        self._stream.flush()


class NoProgress(Progress):
    """Shows nothing."""

    def __init__(self, what: str, total: int, unit: str, stream: TextIO | None = None) -> None:
        super().__init__(what, total, unit, stream)
        self._has_bar = False

    def _print(self, now: float, last: bool = False) -> None:
        pass


ShowProgress: TypeAlias = Callable[[str, int, str], Progress]
"""Opens the progress of one stage, given `what`, `total` and `unit`."""


def shown(progress: bool | ShowProgress) -> ShowProgress:
    """What the argument `progress` of a public function means.

    Args:
        progress: whether to show it; or a subclass of `Progress`, or another opener, to show it in another way.
    """
    if isinstance(progress, bool):
        return Progress if progress else NoProgress
    return progress


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


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _has_size(stream: TextIO) -> bool:
    """Whether the terminal says how large it is: some say 0, and tqdm then shows nothing."""
    try:
        return os.get_terminal_size(stream.fileno()).columns > 0
    except (OSError, ValueError):
        return False


def _in_notebook() -> bool:
    """Whether this is the kernel of a notebook, whose stderr is no terminal and yet shows bars."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
