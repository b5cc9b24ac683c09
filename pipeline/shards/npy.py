"""One array as the bytes of a `.npy` file, without pickle on either side."""

import io
from functools import lru_cache

import numpy as np

from pipeline.contract.errors import ShardError

_LONGEST_HEADER = 1024


def to_npy(array: np.ndarray) -> bytes:
    """The `.npy` file (format 1.0, C order) of an array of plain numbers."""
    return b"".join([_write_header(array.dtype, array.shape), np.ascontiguousarray(array).data])


def from_npy(data: bytes | memoryview, where: str) -> np.ndarray:
    """The array in a `.npy` file, a read-only view of `data`.

    Raises:
        ShardError: not such a file, or of another length than its header says, or an array of objects.
    """
    view = memoryview(data)
    length = int.from_bytes(view[8:10], "little")
    if view[:8] != b"\x93NUMPY\x01\x00" or len(view) < 10 + length or length > _LONGEST_HEADER:
        raise ShardError(f"{where}: not an array of numbers in the npy format: generate this shard again")
    try:
        shape, dtype, count = _read_header(bytes(view[: 10 + length]))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise ShardError(f"{where}: damaged npy header: generate this shard again") from error
    # before anything of the declared size is made: count is a Python integer and cannot overflow
    if len(view) - 10 - length != count * dtype.itemsize:
        raise ShardError(f"{where}: {len(view)} bytes do not hold {dtype} {shape}: generate this shard again")
    return np.frombuffer(view, dtype, count, 10 + length).reshape(shape)


@lru_cache(maxsize=256)
def _write_header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    sink = io.BytesIO()
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(sink, header)
    return sink.getvalue()


@lru_cache(maxsize=256)
def _read_header(header: bytes) -> tuple[tuple[int, ...], np.dtype, int]:
    source = io.BytesIO(header)
    np.lib.format.read_magic(source)
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(source, max_header_size=_LONGEST_HEADER)
    if fortran_order or dtype.kind not in "fiu" or min(shape, default=0) < 0:
        raise ValueError("not a C-ordered array of numbers")
    count = 1
    for size in shape:
        count *= size
    return shape, dtype, count
