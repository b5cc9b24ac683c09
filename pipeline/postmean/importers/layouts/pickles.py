"""A reader of pickled batches that can build only plain values and number arrays.

A pickle is a program that may call anything. This reader refuses every global that a pickle names, except those with
which numpy writes an array, and maps these to code in this file: the pickle can call no code of numpy or others.

A value of some hundred bytes may share its parts so often that to hash, compare or print it never ends. So keys are
plain texts or integers, and no message prints a value.
"""

import io
import math
import pickle
from typing import IO, Any

import numpy as np

from postmean.base.errors import DataError
from postmean.base.one_line import brief
from postmean.importers import limits
from postmean.importers.files.source import Source


def read_pickle(source: Source, name: str) -> Any:
    """The content of a pickle in a source; see `load_plain`.

    Raises:
        DataError: it holds anything else than plain values, is damaged, or too large.
    """
    size = source.size(name)
    if size > limits.MAX_PICKLE_BYTES:
        raise DataError(f"{source.place(name)}: {size:,} bytes, too large for a pickle that is read into memory")
    with source.open(name) as file:
        return _load(file, size, source.place(name))


def load_plain(data: bytes, place: str) -> Any:
    """The content of a pickle: None, dicts, lists, tuples, bools, ints, floats, bytes, str and arrays of numbers.

    Args:
        place: names the file in errors.
    Raises:
        DataError: the pickle holds anything else, or is damaged.
    """
    return _load(io.BytesIO(data), len(data), place)


def _load(file: IO[bytes], size: int, place: str) -> Any:
    try:
        return _finished(_PlainUnpickler(file, size).load(), {})
    except _RefusedError as error:
        raise DataError(
            f"{place}: refused to unpickle {brief(error)}: only plain values and number arrays are read: "
            "download the batches from their official site"
        ) from error
    except Exception as error:  # a damaged pickle fails in any way
        raise DataError(f"{place}: not a readable batch ({brief(error)}): copy or download it again") from error


class _RefusedError(Exception):
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
            raise _RefusedError("an array of another type than numbers")
        return np.dtype(self.code).newbyteorder(">" if self.order == ">" else "<")


class _Array:
    """Stands for numpy.ndarray while the pickle is read."""

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, fortran, self.raw = state
        self.order = "F" if fortran else "C"

    def made(self) -> np.ndarray:
        if not isinstance(self.dtype, _Dtype) or not isinstance(self.raw, bytes | bytearray):
            raise _RefusedError("an array of objects")
        array = np.frombuffer(self.raw, self.dtype.made())
        sizes = self.shape if isinstance(self.shape, tuple) and len(self.shape) <= 8 else ()
        if not all(type(size) is int and 0 <= size <= len(array) for size in sizes) or math.prod(sizes) != len(array):
            raise ValueError(f"{len(array)} numbers for an array of another shape")
        return array.reshape(self.shape, order="F" if self.order in ("F", b"F") else "C")


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.raw, array.dtype, array.shape, array.order = raw, dtype, shape, order
    return array


class _Encode:
    """Stands for codecs.encode, with which protocol 2 writes bytes; the results are no longer than the pickle."""

    def __init__(self, most: int) -> None:
        self._left = most

    def __call__(self, text: str, encoding: Any) -> bytes:
        if encoding not in (b"latin1", "latin1"):
            raise _RefusedError("text of another encoding than latin1")
        self._left -= len(text)
        if self._left < 0:
            raise _RefusedError("more bytes than are in the file")
        return text.encode("latin1")


_ALLOWED = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
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


class _PlainUnpickler(_Unpickler):
    dispatch = dict(_Unpickler.dispatch)  # noqa: RUF012

    def __init__(self, file: IO[bytes], size: int) -> None:
        super().__init__(_Bounded(file, size), encoding="bytes")
        self._encode = _Encode(2 * size)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self._encode
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _RefusedError(f"{module}.{name}") from None

    def load_build(self) -> None:
        state = self.stack.pop()
        if type(self.stack[-1]) not in (_Dtype, _Array):
            raise _RefusedError(f"a state for a value of type {type(self.stack[-1]).__name__}")
        self.stack[-1].__setstate__(state)

    def load_bytearray8(self) -> None:
        size = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(size)))

    def load_dict(self) -> None:
        items = self.pop_mark()
        _check_keys(items[::2])
        self.append({items[i]: items[i + 1] for i in range(0, len(items), 2)})

    def load_setitem(self) -> None:
        _check_keys(self.stack[-2:-1])
        _Unpickler.load_setitem(self)

    def load_setitems(self) -> None:
        _check_keys(self.stack[::2])
        _Unpickler.load_setitems(self)

    def refuse_set(self) -> None:
        raise _RefusedError("a set")

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


def _check_keys(keys: list[Any]) -> None:
    """Raise unless these are keys that are hashed at once: a nested tuple of shared ones takes for ever."""
    if not all(isinstance(key, bytes | str | int) for key in keys):
        raise _RefusedError("a dict with other keys than texts and integers")


def _finished(value: Any, done: dict[int, Any]) -> Any:
    """The value with `_Array` objects replaced by arrays; shared values are visited once."""
    if id(value) not in done:
        if isinstance(value, dict):
            new: Any = {_finished(key, done): _finished(inner, done) for key, inner in value.items()}
        elif isinstance(value, list | tuple):
            new = type(value)(_finished(inner, done) for inner in value)
        elif isinstance(value, _Array):
            new = value.made()
        elif value is None or isinstance(value, bool | int | float | bytes | str):
            new = value
        else:
            raise _RefusedError(f"a value of type {type(value).__name__}")
        done[id(value)] = new
    return done[id(value)]
