"""Tables, arrays, idx and binary files made to hang, fill the memory or fail: each gives one line within bounds."""

import io
import json
import pickle
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from postmean.base.errors import DataError, PostmeanError
from postmean.importers.config import ImportConfig
from postmean.importers.run import import_images
from tests.support.image_files import make_source, png, random_images
from tests.support.imports import imported, refused_import

pytestmark = pytest.mark.usefixtures("bounded")

IMAGES = random_images(4, (32, 32, 3))
FLAT = IMAGES.transpose(0, 3, 1, 2).reshape(4, -1)


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def parquet(**columns):
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def cifar(names, record, last=0):
    """The binary version, with one record a file; the third is shorter by `last` bytes."""
    files = {f"data_batch_{i}.bin": record[: len(record) - last * (i == 3)] for i in range(1, 6)}
    return {"batches.meta.txt": names} | files


def batch(labels, data=None):
    return {"train_data_batch_1": pickle.dumps({"data": FLAT if data is None else data, "labels": labels})}


CELLS = [{"bytes": png(image), "path": "x.png"} for image in IMAGES]
HEADER = b"\x93NUMPY\x01\x00"


def header(text):
    return HEADER + struct.pack("<H", len(text)) + text


BAD = {
    "floats": ({"images.npy": npy(IMAGES / 255)}, r"images\.npy in .*: float64 pixels, expected uint8"),
    "objects": ({"images.npy": npy(np.array([None] * 4), allow_pickle=True)}, r"images\.npy in .*: an array of object"),
    "fortran": ({"images.npy": npy(np.asfortranarray(IMAGES))}, r"images\.npy in .*: in Fortran order"),
    "cut": ({"images.npy": npy(IMAGES)[:-1]}, r"images\.npy in .*: 12,415 bytes, expected 12,416"),
    "longer": ({"images.npy": npy(IMAGES) + b"x"}, r"12,417 bytes, expected 12,416"),
    "rows": ({"images.npy": npy(FLAT)}, r"images\.npy in .*: shape \[4, 3072\], expected \[n, H, W\]"),
    "huge": (
        {"images.npy": header(b"{'descr': '|u1', 'fortran_order': False, 'shape': (999999999999, 32, 32, 3), }")},
        r"images\.npy in .*: \d+ bytes, expected",
    ),
    "negative": (
        {"images.npy": header(b"{'descr': '|u1', 'fortran_order': False, 'shape': (-4, 32, 32, 3), }")},
        r"images\.npy in ",
    ),
    "deep header": ({"images.npy": header(b"(" * 9000)}, r"images\.npy in .*: not a readable \.npy file"),
    "header that calls": ({"images.npy": header(b"__import__('os').getcwd()")}, r"not a readable \.npy file"),
    "two arrays": ({"images.npy": npy(IMAGES), "x.npy": npy(IMAGES)}, r"images\.npy, x\.npy could each be it"),
    "no images": ({"a.npy": npy(IMAGES), "b.npy": npy(IMAGES)}, r"no array of images among a\.npy, b\.npy"),
    "labels short": ({"x.npy": npy(IMAGES), "y.npy": npy(np.arange(3))}, r"y\.npy in .*: 3 labels for 4 images"),
    "labels negative": ({"x.npy": npy(IMAGES), "y.npy": npy(np.array([0, 1, -1, 0]))}, r"label -1: expected 0, 1"),
    "labels large": ({"x.npy": npy(IMAGES), "y.npy": npy(np.array([0, 1, 10**9, 0]))}, r"label 1000000000, the last"),
    "labels floats": ({"x.npy": npy(IMAGES), "y.npy": npy(np.zeros(4))}, r"labels of float64 of shape \[4\]"),
    "labels no one-hot": ({"x.npy": npy(IMAGES), "y.npy": npy(np.ones((4, 3)))}, r"labels that are not one-hot"),
    "parquet cut": ({"x.parquet": parquet(image=CELLS)[:-9]}, r"x\.parquet in .*: not a readable table"),
    "parquet that is none": ({"x.parquet": b"PAR1" * 9}, r"x\.parquet in .*: not a readable table"),
    "parquet of paths": (
        {"x.parquet": parquet(image=[{"bytes": b"", "path": "a"}, {"bytes": None, "path": "a.png"}])},
        r"corrupt image|without its image's bytes",
    ),
    "parquet label missing": ({"x.parquet": parquet(image=CELLS, label=[0, 1, None, 1])}, r"1 rows without a label"),
    "parquet label negative": ({"x.parquet": parquet(image=CELLS, label=[0, 1, -1, 1])}, r"label -1: expected 0, 1"),
    "parquet arrays of sizes": (
        {"x.parquet": parquet(image=pa.array([[[1, 2], [3, 4]], [[1, 2]]], pa.list_(pa.list_(pa.uint8()))))},
        r"arrays of several sizes",
    ),
    "parquet arrays of int": (
        {"x.parquet": parquet(image=pa.array([[[1, 2], [3, 400]]], pa.list_(pa.list_(pa.int64()))))},
        r"arrays of int64, expected uint8",
    ),
    "two data sets": (
        {"a/train-0.parquet": parquet(image=CELLS), "b/train-0.parquet": parquet(image=CELLS)},
        r"several data sets, a, b: give one of them",
    ),
    "other columns": (
        {"train-0.parquet": parquet(image=CELLS), "train-1.parquet": parquet(image=CELLS, label=[0] * 4)},
        r"train-1\.parquet in .*: other columns than train-0\.parquet",
    ),
    "arrow that is none": ({"data.arrow": b"x" * 100}, r"data\.arrow in .*: not a readable table"),
    "idx of floats": ({"train-images-idx3-ubyte": b"\0\0\x0d\x03" + bytes(12)}, r"not an idx file of bytes"),
    "idx that is huge": (
        {"train-images-idx3-ubyte": struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**31, 2**31)},
        r"not an idx file of bytes",
    ),
    "idx that is cut": (
        {"train-images-idx3-ubyte": struct.pack(">HBB3I", 0, 8, 3, 4, 8, 8) + bytes(100)},
        r"train-images-idx3-ubyte in .*: cut off at image 1 of 4",
    ),
    "idx with fewer labels": (
        {
            "train-images-idx3-ubyte": struct.pack(">HBB3I", 0, 8, 3, 4, 8, 8) + bytes(256),
            "train-labels-idx1-ubyte": struct.pack(">HBBI", 0, 8, 1, 3) + bytes(3),
        },
        r"train-labels-idx1-ubyte in .*: 3 labels for 4 images",
    ),
    "binary that is cut": (
        cifar(b"a\nb\n", bytes(3073), 1),
        r"data_batch_3\.bin in .*: 3,072 bytes, no whole records of 3073",
    ),
    "binary without a name": (
        cifar(b"a\n", b"\x01" + bytes(3072)),
        r"image 0 of data_batch_1\.bin in .*: label 1: expected 0\.\.0",
    ),
    "binary that lacks a batch": (
        {"batches.meta.txt": b"a\n", "data_batch_1.bin": bytes(3073)},
        r"data_batch_2\.bin is missing: expected CIFAR-10's binary version",
    ),
    "imagenet labels from 0": (batch([0, 1, 2, 3]), r"labels 0\.\.3: expected 1\.\.1000"),
    "imagenet labels above": (batch([1, 1, 2, 1001]), r"labels 1\.\.1001: expected 1\.\.1000"),
    "imagenet of no squares": (batch([1] * 4, FLAT[:, :100]), r"expected data as uint8 \[n, 3 side side\]"),
    "imagenet that calls": ({"train_data_batch_1": b"cos\nsystem\n(S'true'\ntR."}, r"refused to unpickle os\.system"),
    "imagenet twice": ({"a/val_data": b"x", "b/val_data": b"x"}, r"is the same batch: remove one of them"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_of_each_layout_are_refused_by_name(tmp_path, name):
    files, message = BAD[name]
    split = "val" if "val_data" in str(files) else "train"
    with refused_import(tmp_path, message):
        imported(tmp_path, make_source(tmp_path, "zip", files), split=split)


GOOD = {
    "npz": {"set/images.npy": npy(IMAGES), "set/labels.npy": npy(np.arange(4))},
    "parquet": {"x.parquet": parquet(image=CELLS, label=[0, 1, 2, 3])},
    "idx": {
        "train-images-idx3-ubyte": struct.pack(">HBB3I", 0, 8, 3, 4, 8, 8) + bytes(256),
        "train-labels-idx1-ubyte": struct.pack(">HBBI", 0, 8, 1, 4) + bytes(4),
    },
    "pickle": {"train_data_batch_1": pickle.dumps({"data": FLAT, "labels": [1, 2, 3, 4]})},
    "state": {"state.json": json.dumps({"_data_files": [{"filename": 3}]}).encode(), "x.arrow": b"x"},
}


@pytest.mark.parametrize("name", GOOD)
def test_damage_anywhere_gives_a_store_or_one_line(tmp_path, name):
    draw = np.random.default_rng(0)
    for i in range(40):
        files = dict(GOOD[name])
        victim = list(files)[i % len(files)]
        damaged = bytearray(files[victim])
        for _ in range(1 + i % 3):
            damaged[draw.integers(0, len(damaged) if i % 2 else min(200, len(damaged)))] = draw.integers(0, 256)
        files[victim] = bytes(damaged)
        source = make_source(tmp_path / str(i), "folder", files)
        try:
            import_images(ImportConfig(source=source, store=tmp_path / "out" / f"{i}", workers=1))
        except PostmeanError as error:
            assert isinstance(error, DataError)
            assert "\n" not in str(error)
            assert len(str(error)) < 1500
