"""A reader of CIFAR's pickled batches that can build nothing but plain values and number arrays.

A pickle is a program that may call anything. Here every global it names is refused, save those by which numpy writes
an array, and these stand for functions of this file: no code of numpy or anyone else runs on what the pickle says.
"""

import io
import math
import pickle
from typing import Any

import numpy as np

from pipeline.contract.errors import DataError


def load_plain(data: bytes, place: str) -> Any:
    """Dicts, lists, tuples, ints, floats, bytes, str and numpy arrays of numbers.

    Args:
        place: names the file in errors.
    Raises:
        DataError: anything else in it, or a damaged file.
    """
    try:
        return _finished(_PlainUnpickler(io.BytesIO(data), encoding="bytes").load())
    except _Refused as error:
        raise DataError(
            f"{place}: refused to unpickle {error}: only plain values and number arrays are read: "
            "download the batches from their official site"
        ) from error
    except Exception as error:  # a damaged pickle fails in any way
        raise DataError(f"{place}: not a readable batch ({error}): copy or download it again") from error


class _Refused(Exception):
    """A global that is not allowed."""


class _Dtype:
    """Stands for numpy.dtype while the pickle is read."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code.decode() if isinstance(code, bytes) else code
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        self.order = order.decode() if isinstance(order, bytes) else order

    def made(self) -> np.dtype:
        if self.code not in ("b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"):
            raise _Refused(f"an array of type {self.code!r}")
        return np.dtype(self.code).newbyteorder(">" if self.order == ">" else "<")


class _Array:
    """Stands for numpy.ndarray while the pickle is read."""

    state: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        self.state = tuple(state)

    def made(self) -> np.ndarray:
        _, shape, dtype, fortran, raw = self.state
        return _from_bytes(raw, dtype, shape, "F" if fortran else "C")


def _from_bytes(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes | bytearray):
        raise _Refused("an array of objects")
    array = np.frombuffer(raw, dtype.made())
    if math.prod(shape) != len(array):
        raise ValueError(f"{len(array)} numbers for an array of shape {shape}")
    return array.reshape(shape, order="F" if order in ("F", b"F") else "C")


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode(text: str, encoding: Any = b"latin1") -> bytes:
    if encoding not in (b"latin1", "latin1"):
        raise _Refused(f"text encoded as {encoding!r}")
    return text.encode("latin1")


_ALLOWED = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _from_bytes,
    ("numpy._core.numeric", "_frombuffer"): _from_bytes,
    ("_codecs", "encode"): _encode,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        try:
            return _ALLOWED[module_name, global_name]
        except KeyError:
            raise _Refused(f"{module_name}.{global_name}") from None


def _finished(value: Any) -> Any:
    """The value with arrays in place of what stood for them; a cyclic one ends in RecursionError."""
    if isinstance(value, dict):
        return {_finished(key): _finished(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_finished, value))
    if isinstance(value, _Array):
        return value.made()
    if value is None or isinstance(value, bool | int | float | bytes | str | np.ndarray):
        return value
    raise _Refused(f"a value of type {type(value).__name__}")
