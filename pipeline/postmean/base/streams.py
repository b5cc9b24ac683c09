"""Standard streams of a command: what is only said on stderr never ends it, and any text can be written anywhere."""

import io
import os
import sys
from contextlib import suppress
from typing import Any

from postmean.base.errors import PostmeanError


def prepare_streams() -> None:
    """Prepare stdin, stdout and stderr of this process; call it once, before anything is opened.

    A descriptor that was closed (`2>&-`) leads to /dev/null: else the next file that is opened would get its number,
    and with it what libraries write to stderr. Characters that the encoding lacks are escaped. Text for a stderr that
    cannot be written (a full disk, a terminal that is gone) is dropped. A stdout that cannot be written raises a
    PostmeanError, or BrokenPipeError if nobody reads it any more. Streams that a caller has replaced stay.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number, this one
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(_Stdout(1), sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Stderr(2), sys.stderr)


def _text(raw: io.RawIOBase, before: Any) -> io.TextIOWrapper:
    """Text that reaches the descriptor at once: nothing is left to fail when the interpreter ends.

    Args:
        before: the stream so far, None if its descriptor was closed.
    """
    if before is not None:
        with suppress(OSError):
            before.flush()
    encoding = getattr(before, "encoding", None) or "utf-8"
    return io.TextIOWrapper(raw, encoding, errors="backslashreplace", newline="\n", write_through=True)  # type: ignore[arg-type]


class _Stdout(io.RawIOBase):
    """Writes to a descriptor, all or nothing."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except BrokenPipeError:
            raise
        except OSError as error:
            raise PostmeanError(
                f"stdout: cannot write: {error.strerror}: send it elsewhere and run the same command again"
            ) from error
        return len(data)


class _Stderr(_Stdout):
    """Drops what cannot be written."""

    def write(self, data: Any) -> int:
        with suppress(BrokenPipeError, PostmeanError):
            super().write(data)
        return len(data)
