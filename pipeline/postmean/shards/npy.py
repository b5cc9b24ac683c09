"""One array as the bytes of a `.npy` file; neither writing nor reading uses pickle."""

import io
import math
import re
from functools import lru_cache

import numpy as np

from postmean.base.errors import ShardError

_LONGEST_HEADER = 1024
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(\|[iu]1|<[iu][248]|<f[248])', 'fortran_order': False, "
    rb"'shape': \(((?:\d{1,15}, ?){0,8}(?:\d{1,15})?)\), \} *\n",
    re.DOTALL,
)


def to_npy(array: np.ndarray) -> bytes:
    """The `.npy` file (format 1.0, C order) of an array of plain numbers."""
    return b"".join([_write_header(array.dtype, array.shape), np.ascontiguousarray(array).data])


def from_npy(data: bytes | memoryview, where: str) -> np.ndarray:
    """The array in a `.npy` file, a read-only view of `data`.

    Raises:
        ShardError: `to_npy` does not write such bytes, or their length differs from the header's.
    """
    view = memoryview(data)
    start = 10 + int.from_bytes(view[8:10], "little")
    header = _read_header(bytes(view[: min(start, _LONGEST_HEADER)]))
    if header is None:
        raise ShardError(f"{where}: not an array of numbers in the npy format")
    dtype, shape, count = header
    # checked before anything of the declared size is allocated: count is a Python integer and cannot overflow
    if len(view) - start != count * dtype.itemsize or max(shape, default=0) > len(view):
        raise ShardError(f"{where}: {len(view)} bytes do not hold {dtype} {shape}")
    return np.frombuffer(view, dtype, count, start).reshape(shape)


@lru_cache(maxsize=256)
def _write_header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    sink = io.BytesIO()
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(sink, header)
    return sink.getvalue()


@lru_cache(maxsize=256)
def _read_header(header: bytes) -> tuple[np.dtype, tuple[int, ...], int] | None:
    # not numpy's parser: it evaluates the header as Python, and a damaged header makes it fail in many ways
    match = _HEADER.fullmatch(header)
    if match is None:
        return None
    shape = tuple(int(size) for size in match[2].replace(b",", b" ").split())
    return np.dtype(match[1].decode()), shape, math.prod(shape)
