"""Arrays in .npy files of a source, read row by row."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np

from postmean.base.errors import DataError
from postmean.base.one_line import brief
from postmean.importers import limits
from postmean.importers.files.source import Source

_CHUNK_BYTES = 2**22


@dataclass(frozen=True)
class ArrayFile:
    """The header of a .npy file."""

    source: Source
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool

    @property
    def place(self) -> str:
        """Its name in messages."""
        return self.source.place(self.name)

    def chunks(self) -> Iterator[np.ndarray]:
        """Consecutive parts along the first axis, of some megabytes each.

        Raises:
            DataError: the file is damaged or cut off, or its order is Fortran's.
        """
        if self.fortran and len(self.shape) > 1:
            raise DataError(f"{self.place}: in Fortran order: save it again after np.ascontiguousarray")
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        rows = max(1, _CHUNK_BYTES // max(1, row))
        left = int(np.prod(self.shape[:1]))
        with self.source.stream(self.name) as stream:
            _header(stream, self.place)
            while left > 0:
                some = min(rows, left)
                data = _exactly(stream, some * row, self.place)
                yield np.frombuffer(data, self.dtype).reshape(some, *self.shape[1:])
                left -= some
            _exactly(stream, 0, self.place)

    def whole(self) -> np.ndarray:
        """The array; DataError if it is too large, see also `chunks`."""
        if math.prod(self.shape) * self.dtype.itemsize > limits.MAX_MEMBER_BYTES:
            raise DataError(f"{self.place}: too large for labels: remove it")
        parts = list(self.chunks())
        return np.concatenate(parts) if parts else np.empty(self.shape, self.dtype)


def open_array(source: Source, name: str) -> ArrayFile:
    """The header of a .npy file.

    Raises:
        DataError: it is none, holds Python objects, or has another size than its header says.
    """
    place = source.place(name)
    with source.stream(name) as stream:
        shape, fortran, dtype, start = _header(stream, place)
    if not shape:
        raise DataError(f"{place}: a single number, expected an array of images or labels: remove it")
    expected = start + math.prod(shape) * dtype.itemsize
    if source.size(name) != expected:
        raise DataError(f"{place}: {source.size(name):,} bytes, expected {expected:,}: copy or download it again")
    return ArrayFile(source, name, shape, dtype, fortran)


def _header(stream: IO[bytes], place: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, order, type, and size of the header in bytes."""
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(stream)
        start = stream.tell()
    except Exception as error:  # any bytes may come here
        raise DataError(f"{place}: not a readable .npy file ({brief(error)}): copy or download it again") from error
    if dtype.hasobject or dtype.names is not None or any(size < 0 for size in shape):
        raise DataError(f"{place}: an array of {dtype}, which is not read: save it as plain numbers")
    return shape, fortran, dtype, start


def _exactly(stream: IO[bytes], count: int, place: str) -> bytearray:
    """The next `count` bytes; 0 reads on to the end, which checks the checksum of a zip."""
    data = bytearray()
    try:
        while len(data) < count or count == 0:
            some = stream.read(min(2**22, count - len(data)) or 1)
            if not some:
                break
            data += some
    except DataError:
        raise
    except Exception as error:  # a damaged zip fails in any way
        raise DataError(f"{place}: cannot be read ({brief(error)}): copy or download it again") from error
    if len(data) != count:
        raise DataError(f"{place}: cut off or too long: copy or download it again")
    return data
