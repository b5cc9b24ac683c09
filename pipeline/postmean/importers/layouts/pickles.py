"""Pickled batches of images: plain values and number arrays alone. Nothing in a pickle runs: see `PlainUnpickler`."""

import io
from typing import IO, Any

from postmean.base.errors import DataError
from postmean.base.one_line import brief
from postmean.base.plain_pickle import PlainUnpickler, RefusedError, finished
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
        return finished(PlainUnpickler(file, size).load(), {})
    except RefusedError as error:
        raise DataError(
            f"{place}: refused to unpickle {brief(error)}: only plain values and number arrays are read: "
            "download the batches from their official site"
        ) from error
    except Exception as error:  # a damaged pickle fails in any way
        raise DataError(f"{place}: not a readable batch ({brief(error)}): copy or download it again") from error
