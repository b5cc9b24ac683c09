"""An unpickler that can build only plain values and number arrays.

A pickle is a program that may call anything. This reader refuses every global that a pickle names, except those with
which numpy writes an array, and maps these to code in this file: the pickle can call no code of numpy or others. A
subclass may allow more, and maps it to code of its own.

A value of some hundred bytes may share its parts so often that to hash, compare or print it never ends. So keys are
plain texts or integers, and no message prints a value.
"""

import math
import pickle
from collections.abc import Callable, Mapping
from typing import IO, Any, ClassVar

import numpy as np


class RefusedError(Exception):
    """The pickle asks for something that is not allowed."""


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
            raise RefusedError("an array of another type than numbers")
        return np.dtype(self.code).newbyteorder(">" if self.order == ">" else "<")


class PickledArray:
    """Stands for numpy.ndarray while the pickle is read."""

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, fortran, self.raw = state
        self.order = "F" if fortran else "C"

    def made(self) -> np.ndarray:
        if not isinstance(self.dtype, _Dtype) or not isinstance(self.raw, bytes | bytearray):
            raise RefusedError("an array of objects")
        array = np.frombuffer(self.raw, self.dtype.made())
        sizes = self.shape if isinstance(self.shape, tuple) and len(self.shape) <= 8 else ()
        if not all(type(size) is int and 0 <= size <= len(array) for size in sizes) or math.prod(sizes) != len(array):
            raise ValueError(f"{len(array)} numbers for an array of another shape")
        return array.reshape(self.shape, order="F" if self.order in ("F", b"F") else "C")


def _reconstruct(*_: Any) -> PickledArray:
    return PickledArray()


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> PickledArray:
    array = PickledArray()
    array.raw, array.dtype, array.shape, array.order = raw, dtype, shape, order
    return array


class _Encode:
    """Stands for codecs.encode, with which protocol 2 writes bytes; the results are no longer than the pickle."""

    def __init__(self, most: int) -> None:
        self._left = most

    def __call__(self, text: str, encoding: Any) -> bytes:
        if encoding not in (b"latin1", "latin1"):
            raise RefusedError("text of another encoding than latin1")
        self._left -= len(text)
        if self._left < 0:
            raise RefusedError("more bytes than are in the file")
        return text.encode("latin1")


_ARRAYS: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): PickledArray,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
}


class _Bounded:
    """A file that is asked for no more bytes than it has: a file object sets memory aside for all that it is asked."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def read(self, size: int) -> bytes:
        data = self._file.read(min(size, self._left))
        self._left -= len(data)
        return data

    def readline(self) -> bytes:
        data = self._file.readline(self._left)
        self._left -= len(data)
        return data


_Unpickler: Any = pickle._Unpickler  # the Python version: the C version allocates whatever a damaged file asks for


class PlainUnpickler(_Unpickler):
    """Reads one pickle.

    Args:
        size: bytes of the file, of which no more are asked for at once.
    """

    allowed: ClassVar[Mapping[tuple[str, str], Any]] = _ARRAYS
    """Module and name of each global that a pickle may name, and the code of ours that stands for it."""
    with_state: ClassVar[tuple[type, ...]] = (_Dtype, PickledArray)
    """Classes of ours whose objects take a state."""
    dispatch = dict(_Unpickler.dispatch)  # noqa: RUF012

    def __init__(self, file: IO[bytes], size: int, encoding: str = "bytes") -> None:
        super().__init__(_Bounded(file, size), encoding=encoding)
        self._encode = _Encode(2 * size)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self._encode
        try:
            return self.allowed[module, name]
        except KeyError:
            raise RefusedError(f"{module}.{name}") from None

    def load_build(self) -> None:
        state = self.stack.pop()
        if type(self.stack[-1]) not in self.with_state:
            raise RefusedError(f"a state for a value of type {type(self.stack[-1]).__name__}")
        self.stack[-1].__setstate__(state)

    def load_bytearray8(self) -> None:
        size = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(size)))

    def load_dict(self) -> None:
        items = self.pop_mark()
        check_keys(items[::2])
        self.append({items[i]: items[i + 1] for i in range(0, len(items), 2)})

    def load_setitem(self) -> None:
        check_keys(self.stack[-2:-1])
        _Unpickler.load_setitem(self)

    def load_setitems(self) -> None:
        check_keys(self.stack[::2])
        _Unpickler.load_setitems(self)

    def refuse_set(self) -> None:
        raise RefusedError("a set")

    dispatch |= {
        pickle.BUILD[0]: load_build,
        pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.DICT[0]: load_dict,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.EMPTY_SET[0]: refuse_set,
        pickle.ADDITEMS[0]: refuse_set,
        pickle.FROZENSET[0]: refuse_set,
    }


def check_keys(keys: list[Any]) -> None:
    """Raise unless these are keys that are hashed at once: a nested tuple of shared ones takes for ever."""
    if not all(isinstance(key, bytes | str | int) for key in keys):
        raise RefusedError("a dict with other keys than texts and integers")


def finished(value: Any, done: dict[int, Any]) -> Any:
    """The value with `PickledArray` objects replaced by arrays; shared values are visited once."""
    if id(value) not in done:
        if isinstance(value, dict):
            new: Any = {finished(key, done): finished(inner, done) for key, inner in value.items()}
        elif isinstance(value, list | tuple):
            new = type(value)(finished(inner, done) for inner in value)
        elif isinstance(value, PickledArray):
            new = value.made()
        elif value is None or isinstance(value, bool | int | float | bytes | str):
            new = value
        else:
            raise RefusedError(f"a value of type {type(value).__name__}")
        done[id(value)] = new
    return done[id(value)]
