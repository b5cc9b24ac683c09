"""npy files: written and read without pickle, in the format that numpy reads."""

import io
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from postmean.base.errors import ShardError
from postmean.shards.npy import from_npy, to_npy

DTYPES = [np.uint8, np.int8, np.float16, np.float32, np.float64, np.int32, np.int64, np.uint32]
arrays = hnp.arrays(st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5))


@given(arrays)
def test_numpy_reads_what_is_written_and_back(array: np.ndarray) -> None:
    data = to_npy(array)
    for found in (np.load(io.BytesIO(data), allow_pickle=False), from_npy(data, "a")):
        assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())
    sink = io.BytesIO()
    np.save(sink, np.ascontiguousarray(array).reshape(array.shape), allow_pickle=False)
    assert data == sink.getvalue()


@given(arrays, st.data())
def test_damage_is_refused_or_changes_values_alone(array: np.ndarray, data: st.DataObject) -> None:
    whole = to_npy(array)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ShardError):
        from_npy(whole[:cut], "a")
    damaged = bytearray(whole)
    damaged[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    with suppress(ShardError):
        assert from_npy(bytes(damaged), "a").nbytes == array.nbytes


def with_header(text: str, content: bytes = b"") -> bytes:
    header = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


@pytest.mark.parametrize(
    "text",
    [
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<U4', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<f4', 'fortran_order': True, 'shape': (1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 999999999999999, 999999999999999), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 1), }",
        "{'descr': '<f1', 'fortran_order': False, 'shape': (4,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1, " * 70 + "), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': " + "(" * 90,
    ],
)
def test_hostile_headers_are_refused(text: str) -> None:
    with pytest.raises(ShardError, match=r"not an array|do not hold"):
        from_npy(with_header(text, bytes(4)), "a")


def test_pickled_arrays_are_refused_unread(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return (tmp_path.joinpath("exploded").touch, ())

    sink = io.BytesIO()
    np.save(sink, np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(ShardError):
        from_npy(sink.getvalue(), "a")
    assert list(tmp_path.iterdir()) == []
