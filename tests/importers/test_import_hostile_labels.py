"""Labels, pickles and JSON made to hang, to fill the memory or to fail: each gives one line within bounds."""

import json
import pickle
import struct
import zipfile

import numpy as np
import pytest

from postmean.base.errors import DataError
from postmean.contract.image_store import ImageStore
from postmean.importers import limits
from postmean.importers.config import ImportConfig
from postmean.importers.layouts.pickles import load_plain
from postmean.importers.run import import_images
from tests.importers.test_import_cifar_batches import cifar_files
from tests.support.image_files import make_source, png, random_images

pytestmark = pytest.mark.usefixtures("bounded")

IMAGES = random_images(3)


def refused(source, folder, message):
    with pytest.raises(DataError, match=message) as caught:
        import_images(ImportConfig(source=source, store=folder / "out" / "store", workers=1))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert not (folder / "out").exists() or not list((folder / "out").iterdir())


def edm_zip(folder, labels, compression=zipfile.ZIP_STORED):
    """A zip of three images; labels are those of the images, or the bytes of its dataset.json."""
    with zipfile.ZipFile(folder / "x.zip", "w", compression) as archive:
        for i, image in enumerate(IMAGES):
            archive.writestr(f"{i}.png", png(image))
        if not isinstance(labels, bytes):
            labels = json.dumps({"labels": [[f"{i}.png", label] for i, label in enumerate(labels)]}).encode()
        archive.writestr("dataset.json", labels)
    return folder / "x.zip"


def nested(value, levels):
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (10**9, r"label 1000000000, the last of 1000000001 classes, more than 65,536"),
        (2_000_000_000, r"label 2000000000"),
        (1_440_764, r"label 1440764"),
        (10**30, r"label 10{30}"),
        (10**4000, r"label 10+\.\.\.0+, the last of"),
        (-1, r"label -1"),
        (None, r"label None"),
        (float("nan"), r"label nan"),
        (float("inf"), r"label inf"),
        (1.0, r"label 1\.0"),
        (True, r"label True"),
        ("", r"label ''"),
        ("nan", r"label 'nan'"),
        ("1e3", r"label '1e3'"),
        ("x" * 10**6, r"label 'x+\.\.\.x+'"),
        ({"a": 1}, r"label \{'a': 1\}"),
        ([[0, 1], [1, 0]], r"a vector but not one-hot"),
        ([1, None], r"a vector but not one-hot"),
        ([float("nan"), 1], r"a vector but not one-hot"),
        (nested(0, 900), r"a vector but not one-hot"),
        ({"a": nested(0, 900)}, r"label \{'a': \[+\.\.\.\]+\}"),
        ([0] * 70_000 + [1], r"label 70000, the last of 70001 classes"),
    ],
)
def test_label_that_is_no_class(tmp_path, label, message):
    refused(edm_zip(tmp_path, [label] * 3), tmp_path, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 10**6, r"dataset\.json in .*: expected .*got no JSON \(.*recursion"),
        (b'{"labels": ' + b'{"a": ' * 10**5, r"got no JSON"),
        (b'{"labels": ' + b"[" * 900 + b"]" * 900 + b"}", r"expected \{\"labels\""),
        (b'{"labels": {"0.png": 0, "1.png": 1, "2.png": 2}}', r"expected \{\"labels\""),
        (b'{"labels": ["00", "11", "22"]}', r"expected \{\"labels\""),
        (b'{"labels": [["0.png", 0, 1]]}', r"expected \{\"labels\""),
        (b'{"labels": [[0, 0]]}', r"expected \{\"labels\""),
        (b'{"labels": [["0.png", ' + b"9" * 5000 + b"]]}", r"got no JSON"),
        (b'{"labels": [["0.png", 0], ["1.png", 0], ["2.png", 0], ["0.png", 1]]}', r"0\.png in .*: labelled twice"),
        (b'{"labels": [["0.png", 0], ["1.png", 0], ["2.png", 0], ["0.png", 0]]}', r"0\.png in .*: labelled twice"),
        (
            b'{"labels": [["0.png", 0], ["1.png", 0], ["2.png", 0], [".\\\\0.png", 0]]}',
            r"labelled in dataset\.json but",
        ),
    ],
)
def test_dataset_json_that_is_deep_or_of_another_form(tmp_path, content, message):
    refused(edm_zip(tmp_path, content), tmp_path, message)


def test_dataset_json_of_many_values_is_refused_before_it_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_JSON_VALUES", 10**5)
    content = b'{"labels": [' + b"[]," * 10**6 + b"[]]}"
    refused(
        edm_zip(tmp_path, content, zipfile.ZIP_DEFLATED), tmp_path, r"dataset\.json in .*: more than 100,000 values"
    )


def test_labels_may_leave_gaps_as_far_as_classes_go(tmp_path):
    import_images(ImportConfig(source=edm_zip(tmp_path, [0, 21_840, 7]), store=tmp_path / "store"))
    store = ImageStore.open(tmp_path / "store")
    assert store.labels is not None
    assert store.labels.tolist() == [0, 21_840, 7]
    assert store.classes == 21_841


def test_labels_may_be_names(tmp_path):
    import_images(ImportConfig(source=edm_zip(tmp_path, ["dog", "cat", "dog"]), store=tmp_path / "store"))
    store = ImageStore.open(tmp_path / "store")
    assert store.labels is not None
    assert (store.labels.tolist(), store.header.class_names) == ([1, 0, 1], ("cat", "dog"))


@pytest.mark.parametrize(
    "label",
    [None, float("nan"), 10**30, -1, 3, 1.0, True, b"1", "1", [1], (1, 2), np.zeros((2, 2), np.uint8), {b"a": 1}],
    ids=repr,
)
def test_label_of_a_batch_that_is_no_class(tmp_path, label):
    files, data, _ = cifar_files(root="")
    files["data_batch_2"] = pickle.dumps({b"data": data[1], b"labels": [0, 1, label, 1]}, 2)
    refused(make_source(tmp_path, "tar", files), tmp_path, r"image 2 of data_batch_2 in .*: label .*: expected 0\.\.2")


@pytest.mark.parametrize(
    "labels",
    [None, 7, "0120", b"0120", {0: 1}, [], [0, 1, 2], np.zeros((4, 1), np.uint8), np.zeros((), np.uint8)],
    ids=repr,
)
def test_labels_of_a_batch_that_are_no_list(tmp_path, labels):
    files, data, _ = cifar_files(root="")
    files["data_batch_2"] = pickle.dumps({b"data": data[1], b"labels": labels}, 2)
    refused(
        make_source(tmp_path, "tar", files), tmp_path, r"data_batch_2 in .*: expected data as uint8 .* and n labels"
    )


@pytest.mark.parametrize("rows", [None, -1, 0, 10**30, float("inf"), float("nan"), "4", b"4", [4], True, 5])
def test_odd_number_of_rows(tmp_path, rows):
    files, _, _ = cifar_files(root="")
    files["batches.meta"] = pickle.dumps({b"num_cases_per_batch": rows, b"label_names": [b"a", b"b", b"c"]}, 2)
    refused(make_source(tmp_path, "tar", files), tmp_path, r"batches\.meta|data_batch_1 in .*: 4 images, expected 5")


def test_labels_may_be_an_array(tmp_path):
    files, data, labels = cifar_files(root="")
    files["data_batch_2"] = pickle.dumps({b"data": data[1], b"labels": labels[1].astype(np.uint8)}, 2)
    import_images(ImportConfig(source=make_source(tmp_path, "tar", files), store=tmp_path / "store"))
    store = ImageStore.open(tmp_path / "store")
    assert store.labels is not None
    assert store.labels.tolist() == labels[:5].ravel().tolist()


def doubled(levels):
    """A pickle, without its end, of a tuple that holds one twice that holds one twice: 2^levels parts in 350 bytes."""
    code = b")q\x00"
    for i in range(levels):
        code += b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1])
    return b"\x80\x02" + code


DOUBLED, IT = doubled(70), b"h\x46"  # IT pushes the value again
NDARRAY, DTYPE, ENCODE = b"cnumpy\nndarray\n)\x81", b"cnumpy\ndtype\n", b"c_codecs\nencode\n"
SHARED = {
    "tuple": DOUBLED + b".",
    "key of a dict": DOUBLED + b"}" + IT + b"K\x01s.",
    "keys of a dict": DOUBLED + b"}(" + IT + b"K\x01u.",
    "key of an old dict": DOUBLED + b"(" + IT + b"K\x01d.",
    "member of a set": DOUBLED + b"\x8f(" + IT + b"\x90.",
    "member of a frozen set": DOUBLED + b"(" + IT + b"\x91.",
    "owner of a state": DOUBLED + b"}b.",
    "state of an array": DOUBLED + NDARRAY + IT + b"b.",
    "argument of numpy": DOUBLED + DTYPE + IT + b"\x85R.",
    "type of an array": DOUBLED + NDARRAY + b"(K\x01K\x01\x85" + DTYPE + IT + b"\x85RI00\nC\x01xtb.",
    "shape of an array": DOUBLED + NDARRAY + b"(K\x01" + IT + DTYPE + b"X\x02\0\0\0u1\x85RI00\nC\x01xtb.",
    "encoding of a text": DOUBLED + ENCODE + b"X\x01\0\0\0x" + IT + b"\x86R.",
    "text to encode": DOUBLED + ENCODE + IT + b"X\x06\0\0\0latin1\x86R.",
    "name of a global": DOUBLED + IT + b"\x93.",
    "a call": DOUBLED + b")R.",
    "a class": DOUBLED + b")\x81.",
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "a dict in itself": b"\x80\x02}q\x00K\x01h\x00s.",
    "deep lists": b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".",
    "deep tuples": b"\x80\x02)" + b"\x85" * 10**5 + b".",
    "long digits": b"I" + b"9" * 10**6 + b"\n.",
    "no number": b"I" + b"\nx" * 1000,
    "memo that is not there": b"\x80\x02j\xff\xff\xff\x7f.",
    "frame beyond the end": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
    "text beyond the end": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.",
    "encoded again and again": b"\x80\x02(X\x00\0\x10\0" + b"x" * 2**20 + b"q\x00"
    + ENCODE + b"q\x01X\x06\0\0\0latin1q\x02" + b"h\x01h\x00h\x02\x86R" * 5000 + b"l.",
}  # fmt: skip


@pytest.mark.parametrize("name", SHARED)
def test_small_pickle_ends_soon(name):
    try:
        load_plain(SHARED[name], "x")
    except DataError as error:
        assert str(error).startswith("x: ")
        assert "\n" not in str(error)
        assert len(str(error)) < 500


@pytest.mark.parametrize("name", SHARED)
def test_small_pickle_as_a_batch_or_its_parts_ends_soon(tmp_path, name):
    files, _, _ = cifar_files(root="")
    files["data_batch_1"] = SHARED[name]
    refused(make_source(tmp_path, "tar", files), tmp_path, r"data_batch_1 in ")


def test_shared_value_as_labels_or_names_ends_soon(tmp_path):
    shared: tuple = ()
    for _ in range(70):
        shared = (shared, shared)
    files, data, _ = cifar_files(root="")
    for labels in (shared, [shared] * 4, [[shared]] * 4):
        files["data_batch_1"] = pickle.dumps({b"data": data[0], b"labels": labels, b"more": shared}, 2)
        refused(make_source(tmp_path, "tar", files), tmp_path, r"data_batch_1 in ")
    for names in (shared, [shared] * 3, 7, [7]):
        files["batches.meta"] = pickle.dumps({b"num_cases_per_batch": 4, b"label_names": names}, 2)
        refused(make_source(tmp_path, "tar", files), tmp_path, r"batches\.meta in .*: no label_names")


def test_any_opcodes_end_soon_in_one_line():
    draw = np.random.default_rng(0)
    codes = np.frombuffer(b"()]}N0123KMJXUqhtal\x85\x86\x87sudeRbcoi\x81\x8f\x90\x91\x93\x94\x95.\n\0\1\2", np.uint8)
    for _ in range(3000):
        data = draw.choice(codes, 40).tobytes()
        try:
            load_plain(data + b".", "x")
        except DataError as error:
            assert "\n" not in str(error)


def test_class_names_that_are_no_utf8(tmp_path):
    files, _, _ = cifar_files(root="")
    names = [b"caf\xe9", "ü".encode(), b"two\nlines"]
    files["batches.meta"] = pickle.dumps({b"num_cases_per_batch": 4, b"label_names": names}, 2)
    import_images(ImportConfig(source=make_source(tmp_path, "tar", files), store=tmp_path / "store"))
    assert ImageStore.open(tmp_path / "store").header.class_names == (r"caf\xe9", "ü", r"two\nlines")
