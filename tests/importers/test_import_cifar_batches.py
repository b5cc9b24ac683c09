import contextlib
import io
import os
import pickle
import resource
import struct
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postmean.base.errors import DataError
from postmean.contract.image_store import ImageStore
from postmean.importers.config import ImportConfig
from postmean.importers.layouts.pickles import load_plain
from postmean.importers.run import import_images
from tests.support.image_files import make_source

NAMES = ("airplane", "automobile", "bird")
ROWS = 4
BATCHES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Writes bytes as Python 2 wrote str, like the published batches."""

    dispatch = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]  # noqa: RUF012

    def save_string(self, data):
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(data)

    dispatch[bytes] = save_string


def dumped(value, how):
    if how == "python 2":
        file = io.BytesIO()
        Python2Pickler(file, 2).dump(value)
        return file.getvalue()
    return pickle.dumps(value, protocol=how)


def cifar_files(how="python 2", root="cifar-10-batches-py/"):
    random = np.random.default_rng(0)
    data = random.integers(0, 256, (6, ROWS, 3072), np.uint8)
    labels = random.integers(0, 3, (6, ROWS))
    files = {
        root + name: dumped(
            {
                b"batch_label": name.encode(),
                b"labels": labels[i].tolist(),
                b"data": data[i],
                b"filenames": [b"x"] * ROWS,
            },
            how,
        )
        for i, name in enumerate(BATCHES)
    }
    meta = {b"num_cases_per_batch": ROWS, b"label_names": [name.encode() for name in NAMES], b"num_vis": 3072}
    return files | {root + "batches.meta": dumped(meta, how), root + "readme.html": b""}, data, labels


@pytest.mark.parametrize("how", ["python 2", 2, 4, 5])
@pytest.mark.parametrize(("form", "root"), [("folder", ""), ("tar.gz", "cifar-10-batches-py/")])
def test_pixels_and_labels_are_those_of_the_batches(tmp_path, how, form, root):
    files, data, labels = cifar_files(how, root)
    source = make_source(tmp_path, form, dict(reversed(files.items())))
    for split, rows in (("train", slice(0, 5)), ("test", slice(5, 6))):
        import_images(ImportConfig(source=source, store=tmp_path / split, split=split))  # type: ignore[arg-type]
        store = ImageStore.open(tmp_path / split)
        assert np.array_equal(store.images, data[rows].reshape(-1, 3, 32, 32))
        assert store.labels is not None
        assert store.labels.tolist() == labels[rows].ravel().tolist()
        assert store.header.class_names == NAMES
        assert store.header.source["importer"] == "cifar"


def test_fortran_ordered_data_keeps_its_meaning(tmp_path):
    array = np.asfortranarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    for how in ("python 2", 2, 5):
        assert np.array_equal(load_plain(dumped(array, how), "x"), array)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_batch_3": None}, r"data_batch_3 is missing: expected cifar-10-batches-py as published"),
        ({"data_batch_3": b"rubbish"}, r"data_batch_3 in .*: not a readable batch .*: copy or download it again"),
        ({"data_batch_3": pickle.dumps([1], 2)}, r"data_batch_3 in .*: expected a dict, got list"),
        (
            {"data_batch_3": pickle.dumps({b"labels": [1]}, 2)},
            r"data_batch_3 in .*: expected data as uint8 \[n, 3072\]",
        ),
        ({"batches.meta": pickle.dumps({}, 2)}, r"batches\.meta in .*: no label_names"),
        ({"other/batches.meta": b""}, r"batches\.meta is there 2 times"),
    ],
)
def test_damaged_batches_are_refused(tmp_path, change, message):
    files, _, _ = cifar_files(root="")
    files = {name: data for name, data in (files | change).items() if data is not None}
    with pytest.raises(DataError, match=message):
        import_images(ImportConfig(source=make_source(tmp_path, "tar", files), store=tmp_path / "store"))
    assert not (tmp_path / "store").exists()


def test_truncated_batch_is_refused(tmp_path):
    files, _, _ = cifar_files(root="")
    for length in range(0, len(files["data_batch_1"]), 701):
        with pytest.raises(DataError, match="data_batch_1: not a readable batch"):
            load_plain(files["data_batch_1"][:length], "data_batch_1")


def test_there_is_no_val_split(tmp_path):
    files, _, _ = cifar_files()
    with pytest.raises(DataError, match="CIFAR-10 has no val split: pass --split train or test"):
        import_images(ImportConfig(source=make_source(tmp_path, "tar", files), store=tmp_path / "store", split="val"))


class Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


PAYLOADS = {
    "system": Call(os.system, "touch owned"),
    "eval": Call(eval, "open('owned', 'w')"),
    "open": Call(open, "owned", "w"),
    "getattr": Call(getattr, Call(__import__, "os"), "system"),
    "load": Call(np.load, "owned"),
    "import": Call(__import__, "antigravity"),
    "object array": np.array([Call(os.system, "touch owned")], dtype=object),
    "numpy function": Call(np.frombuffer, b"1234"),
    "class": tarfile.TarFile,
    "set": {1, 2},
    "complex array": np.zeros(2, complex),
    "codec": Call(__import__("codecs").encode, b"x", "hex"),
}


@pytest.mark.parametrize("name", PAYLOADS)
@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_nothing_but_plain_values_is_ever_unpickled(tmp_path, monkeypatch, name, protocol):
    monkeypatch.chdir(tmp_path)
    files, _, _ = cifar_files(root="")
    files["data_batch_2"] = pickle.dumps({b"data": PAYLOADS[name], b"labels": []}, protocol)
    source = make_source(tmp_path, "tar", files)
    with pytest.raises(DataError, match=r"data_batch_2 in .*source\.tar: refused to unpickle .* only plain values"):
        import_images(ImportConfig(source=source, store=tmp_path / "store"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.tar"]


def test_pickle_cannot_change_the_reader():
    # the class that stands for numpy.ndarray, then a state to set as its attributes
    attack = b"cnumpy\nndarray\n(N}Vmade\nI1\nstb."
    with pytest.raises(DataError, match="refused to unpickle a state for"):
        load_plain(attack, "x")


def test_small_pickle_cannot_fill_the_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    nested: list = []
    for _ in range(60):
        nested = [nested, nested]
    load_plain(pickle.dumps({b"x": nested}), "x")  # 2^60 lists if sharing were lost
    for attack in (
        b"K\x05r\xff\xff\xff\x7f.",  # memo of 2^31 entries
        b"\x96" + struct.pack("<Q", 2**40) + b".",  # bytearray of a terabyte
        b"\x8e" + struct.pack("<Q", 2**40) + b".",  # bytes
        pickle.dumps(np.zeros(3), 2).replace(b"K\x03\x85", b"J\xff\xff\xff\x7f\x85"),  # array of 2^31 numbers
    ):
        with contextlib.suppress(DataError):
            load_plain(attack, "x")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.binary(max_size=9)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=30)
@given(PLAIN, st.sampled_from([3, 4, 5]))
def test_plain_values_come_back_as_they_are(value, protocol):
    assert load_plain(pickle.dumps(value, protocol), "x") == value


@settings(max_examples=150)
@given(st.data())
def test_damaged_pickles_give_a_value_or_an_error(data):
    array = np.arange(20, dtype=np.uint8)
    damaged = bytearray(pickle.dumps({b"data": array, b"labels": [1, 2], b"name": "x"}, data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        load_plain(bytes(damaged), "batch")
    except DataError as error:
        assert str(error).startswith("batch: ")
