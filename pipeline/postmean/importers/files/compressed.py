"""A file that is compressed by itself, such as MNIST's `train-images-idx3-ubyte.gz`, as a source of one file."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from postmean.base.errors import DataError
from postmean.base.one_line import brief
from postmean.importers.files.budget import Budget
from postmean.importers.files.slice import slice_of
from postmean.importers.files.source import Source, spooled
from postmean.importers.files.tar_headers import Unpacked

_OPENERS: dict[bytes, Any] = {
    b"\x1f\x8b": gzip.open,
    b"\xfd7zXZ\x00": lzma.open,
    b"BZh": bz2.open,
}


def opener(head: bytes) -> Callable[..., IO[bytes]] | None:
    """What opens a compressed file that begins with these bytes; None if it is not compressed."""
    return next((opened for magic, opened in _OPENERS.items() if head.startswith(magic)), None)


class CompressedFile(Source):
    """The one file that a .gz, .xz or .bz2 file holds.

    Args:
        path: names the compressed file in messages.
        archive: opens it.
        inner: name of the file in it.
        budget: what it may unpack to.
    """

    def __init__(self, path: Path | str, archive: Callable[[], IO[bytes]], inner: str, budget: Budget) -> None:
        self.budget = budget
        self._archive = archive
        self._file: IO[bytes] | None = None
        super().__init__(path, [inner], [])

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def size(self, name: str) -> int:
        return self._unpacked().seek(0, 2)

    def stream(self, name: str) -> IO[bytes]:
        return self.open(name)

    def open(self, name: str) -> IO[bytes]:
        return slice_of(self._unpacked, 0, self.size(name))

    def read(self, name: str) -> bytes:
        self._check_size(name, self.size(name))
        with self.open(name) as file:
            return file.read()

    def place(self, name: str) -> str:
        return str(self.path)

    def _unpacked(self) -> IO[bytes]:
        if self._file is None:
            assert self.budget is not None
            try:
                with self._archive() as raw:
                    unpack = opener(raw.read(6))
                    assert unpack is not None
                    raw.seek(0)
                    with unpack(raw) as stream:
                        unpacked = Unpacked(stream, self.budget)
                        self._file = spooled(unpacked)
            except DataError:
                raise
            except Exception as error:
                raise DataError(
                    f"{self.path}: cannot be unpacked ({brief(error)}): copy or download it again"
                ) from error
        return self._file
