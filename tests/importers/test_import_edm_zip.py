import json

import numpy as np
import pytest

from postmean.base.errors import DataError
from postmean.contract.image_store import ImageStore
from postmean.importers.config import ImportConfig
from postmean.importers.run import import_images
from tests.support.image_files import make_source, planes, png, random_images

IMAGES = random_images(5, (8, 8, 3))
NAMES = [f"{i // 3:05d}/img{i:08d}.png" for i in range(5)]
INTEGERS = [3, 0, 1, 1, 3]


def edm_files(labels, root=""):
    files = {root + name: png(image) for name, image in zip(NAMES, IMAGES, strict=True)}
    return {root + "dataset.json": json.dumps({"labels": labels}).encode()} | dict(reversed(files.items()))


def pairs(labels):
    return [[name, label] for name, label in zip(NAMES, labels, strict=True)]


def read(tmp_path, files, form="zip", **settings):
    source = make_source(tmp_path, form, files)
    import_images(ImportConfig(source=source, store=tmp_path / "store", workers=1, **settings))
    return ImageStore.open(tmp_path / "store")


@pytest.mark.parametrize(("form", "root"), [("zip", ""), ("folder", ""), ("folder", "edm/"), ("tar.gz", "./")])
@pytest.mark.parametrize("one_hot", [False, True])
def test_pixels_and_labels_are_those_of_the_zip(tmp_path, form, root, one_hot):
    labels = np.eye(6)[INTEGERS].tolist() if one_hot else INTEGERS
    store = read(tmp_path, edm_files(pairs(labels), root), form)
    assert np.array_equal(store.images, planes(IMAGES))
    assert store.labels is not None
    assert store.labels.tolist() == INTEGERS
    assert store.header.class_names == tuple("012345"[: 6 if one_hot else 4])
    assert store.header.source["importer"] == "edm"


def test_labels_may_be_null(tmp_path):
    store = read(tmp_path, edm_files(None))
    assert store.labels is None
    assert store.header.class_names is None
    assert np.array_equal(store.images, planes(IMAGES))


def test_images_without_dataset_json_have_no_labels(tmp_path):
    files = {name.replace("/", "-"): data for name, data in edm_files(None).items() if name.endswith(".png")}
    store = read(tmp_path, files, "folder", kind="edm")
    assert store.labels is None
    assert np.array_equal(store.images, planes(IMAGES))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (pairs(INTEGERS)[:-1], r"00001/img00000004\.png in .*: no label in dataset\.json"),
        ([*pairs(INTEGERS), ["00009/img9.png", 1]], r"00009/img9\.png in .*: labelled in dataset\.json but not there"),
        (pairs([0, 1, -1, 0, 0]), r"img00000002\.png in .*: label -1 in dataset\.json: expected 0, 1, 2"),
        (pairs([0, 1, 0.5, 0, 0]), r"img00000002\.png in .*: label 0\.5"),
        (pairs([0, 1, True, 0, 0]), r"img00000002\.png in .*: label True"),
        (pairs([[0.5, 0.5]] * 5), r"img00000000\.png in .*: its label is a vector but not one-hot"),
        (pairs([[]] * 5), r"img00000000\.png in .*: its label is a vector but not one-hot"),
        (pairs([[1, 0], [1, 0, 0], 0, 0, 0]), r"dataset\.json in .*: labels of different kinds or lengths"),
        (7, r"dataset\.json in .*: expected .*labels"),
        ([[1, 2]], r"dataset\.json in .*: expected .*labels"),
    ],
)
def test_labels_that_do_not_belong_to_the_images_are_refused(tmp_path, labels, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, edm_files(labels))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_dataset_json_of_another_form_is_refused(tmp_path, content):
    with pytest.raises(DataError, match=r"dataset\.json in .*: expected"):
        read(tmp_path, edm_files(None) | {"dataset.json": content})


def test_two_data_sets_in_one_source_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds a/dataset\.json and b/dataset\.json"):
        read(tmp_path, edm_files(None, "a/") | edm_files(None, "b/"))


def test_splits_are_refused(tmp_path):
    with pytest.raises(DataError, match="an EDM zip has no splits: leave out --split test"):
        read(tmp_path, edm_files(None), split="test")
