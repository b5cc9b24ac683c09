"""A part of a file as a file."""

import io
from collections.abc import Callable
from typing import IO, cast


def slice_of(file: Callable[[], IO[bytes]], start: int, size: int) -> IO[bytes]:
    """Bytes start .. start + size of a file that others read too, so that each read seeks first.

    Args:
        file: the opened file; asked at each read, as it may have been opened anew.
    """
    return cast(IO[bytes], io.BufferedReader(_Slice(file, start, size), 2**16))


class _Slice(io.RawIOBase):
    def __init__(self, file: Callable[[], IO[bytes]], start: int, size: int) -> None:
        self._file, self._start, self._size = file, start, size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        file = self._file()
        file.seek(self._start + self._at)
        data = file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
