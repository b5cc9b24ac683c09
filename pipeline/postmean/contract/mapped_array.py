"""One array of a `.npy` file as a memory map."""

import math
from pathlib import Path

import numpy as np

from postmean.base.errors import DataError


def map_array(path: Path, dtype: np.dtype, shape: tuple[int, ...], remedy: str) -> np.ndarray:
    """A read-only memory map of the array.

    Args:
        remedy: what to do about a damaged file.
    Raises:
        DataError: the file does not hold exactly this dtype and shape, in C order.
    """
    # not numpy's parser: it evaluates the header as Python, and a damaged header makes it fail in many ways
    described = (
        f"{{'descr': '{np.lib.format.dtype_to_descr(dtype)}', 'fortran_order': False, 'shape': {tuple(shape)}, }}"
    )
    if not path.is_file():
        raise DataError(f"{path}: missing: {remedy}")
    try:
        with path.open("rb") as file:
            magic = file.read(10)
            header = file.read(int.from_bytes(magic[8:], "little"))
        size = path.stat().st_size
        start = len(magic) + len(header)
        expected = start + math.prod(shape) * dtype.itemsize
        if magic[:8] != b"\x93NUMPY\x01\x00" or header.rstrip(b" \n") != described.encode():
            raise DataError(f"{path}: not an array of {dtype} {tuple(shape)}, as the header says: {remedy}")
        if size != expected:
            raise DataError(f"{path}: {size} bytes, expected {expected}: {remedy}")
        return np.memmap(path, dtype, "r", start, tuple(shape))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}: make it readable") from error
    except (ValueError, OverflowError) as error:
        raise DataError(f"{path}: {error}: {remedy}") from error
