"""What tarfile may read of an archive: its headers, front to back, within a bound.

tarfile trusts sizes in headers: a negative one leads it back to a header that it has read, for ever, and a large one
makes it read all of an archive into memory. It takes time quadratic in the length of a malformed extended header.
"""

import re
import tarfile
from typing import IO, Protocol

from postmean.importers import limits
from postmean.importers.files.budget import Budget, DamagedArchiveError

_EXTENDED = b"xgX"
_NAMES = b"LK"
_MANY_DIGITS = re.compile(rb"\d{64}")


class Readable(Protocol):
    """The part of a file that is needed to go through a tar."""

    def read(self, size: int, /) -> bytes: ...
    def tell(self) -> int: ...
    def seek(self, offset: int, /) -> object: ...


class HeaderReader:
    """A tar's file as tarfile sees it. Call `next_member` before each header."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self._left = limits.MAX_TAR_HEADER_BYTES
        self._kind = b""  # type flag of the header that was read last
        self.tell = file.tell
        self.last = b""
        """The bytes of the last read."""

    def next_member(self) -> None:
        """Begin to count the bytes of the next header."""
        self._left = limits.MAX_TAR_HEADER_BYTES

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self._left:
            raise DamagedArchiveError(f"a header of more than {limits.MAX_TAR_HEADER_BYTES:,} bytes")
        self._left -= size
        self.last = self._file.read(size)
        if self._kind and self._kind in _EXTENDED + _NAMES:  # this is what the header before it describes
            if self._kind in _EXTENDED:
                _check_extended(self.last)
            self._kind = b""
        elif size == tarfile.BLOCKSIZE:
            self._kind = self.last[156:157]
        return self.last

    def seek(self, offset: int) -> None:
        if offset < self._file.tell():
            raise DamagedArchiveError("a member with a negative size")
        self._file.seek(offset)


class Unpacked:
    """The bytes of a compressed file, front to back, up to a bound."""

    def __init__(self, stream: IO[bytes], budget: Budget) -> None:
        self._stream = stream
        self._budget = budget
        self._at = 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._at += len(data)
        self._budget.spend(len(data))
        return data

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int) -> None:
        while self._at < offset and self.read(min(2**20, offset - self._at)):
            pass


def _check_extended(data: bytes) -> None:
    """Raise unless an extended header is a list of records `length key=value\\n`."""
    at = 0
    while at < len(data) and data[at]:
        space = data.find(b" ", at, at + 20)
        length = data[at:space]
        stop = at + int(length) if space > 0 and length.isdigit() else at
        if not space < stop <= len(data) or data[stop - 1] != ord("\n") or b"=" not in data[space:stop]:
            raise DamagedArchiveError("a malformed extended header")
        at = stop
    if _MANY_DIGITS.search(data):
        raise DamagedArchiveError("an extended header with a number of 64 digits")
