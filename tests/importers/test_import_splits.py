"""Folders of splits are never classes, and a class has one number in all splits and whatever folders are empty."""

import numpy as np
import pytest

from postmean.base.errors import DataError
from postmean.contract.image_store import ImageStore
from postmean.importers.config import ImportConfig
from postmean.importers.layouts.splits import split_of
from postmean.importers.run import import_images
from tests.support.image_files import FORMS, make_source, planes, png, random_images
from tests.support.imports import imported, refused_import

IMAGES = random_images(6)
DATA = [png(image) for image in IMAGES]


def read(tmp_path, names, form="folder", folders=(), **settings):
    """A store of images 0, 1, 2, ... under these names."""
    source = make_source(tmp_path / "from", form, dict(zip(names, DATA, strict=False)))
    for folder in folders:
        (source / folder).mkdir(parents=True)
    return imported(tmp_path, source, **settings)


def refused(tmp_path, names, message, **settings):
    with refused_import(tmp_path, message):
        read(tmp_path, names, **settings)


def labels(store):
    assert store.labels is not None
    return store.labels.tolist()


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("training", "testing"),
        ("Train", "Test"),
        ("TRAIN", "VAL"),
        ("Training", "Validation"),
        ("training_set", "test_set"),
        ("train-images", "valid"),
        ("train2017", "val2017"),
        ("images_train", "images_val"),
    ],
)
@pytest.mark.parametrize("form", ["folder", "zip", "tar.gz"])
def test_folders_of_splits_are_not_classes(tmp_path, train, test, form):
    names = [f"set/{train}/a/0.png", f"set/{train}/b/0.png", f"set/{test}/a/0.png", f"set/{test}/b/0.png"]
    store = read(tmp_path / "train", names, form)
    assert store.header.class_names == ("a", "b")
    assert np.array_equal(store.images, planes(IMAGES[:2]))
    other = split_of(test)
    assert other in ("test", "val")
    store = read(tmp_path / "other", names, form, split=other)
    assert store.header.class_names == ("a", "b")
    assert np.array_equal(store.images, planes(IMAGES[2:4]))


@pytest.mark.parametrize(
    "name", ["cat", "bullet train", "trains", "testudo", "valley", "retrain", "set", "data", "device"]
)
def test_other_names_are_no_splits(name):
    assert split_of(name) is None


def test_splits_inside_classes_are_told_apart(tmp_path):
    names = ["a/train/0.png", "b/train/0.png", "a/test/1.png", "b/Test/1.png"]
    assert np.array_equal(read(tmp_path / "train", names).images, planes(IMAGES[[0, 1]]))
    store = read(tmp_path / "test", names, split="test")
    assert np.array_equal(store.images, planes(IMAGES[[2, 3]]))
    assert store.header.class_names == ("a", "b")
    refused(tmp_path, names, r"no val folder in any class: pass another --split", split="val")


def test_a_split_beside_other_folders_is_not_guessed(tmp_path):
    names = ["train/a/0.png", "train/b/0.png", "extra/c/0.png"]
    refused(tmp_path, names, r"source/train: a split, or a class like extra\? give that folder itself as the source")
    store = read(tmp_path / "two", [*names, "val/a/0.png"])
    assert store.header.class_names == ("a", "b")
    place = tmp_path / "two" / "from" / "source" / "extra"
    assert store.header.source["notes"] == [f"1 image in {place}, outside the splits, not read"]


def test_two_folders_of_one_split_are_refused(tmp_path):
    refused(
        tmp_path, ["train/a/0.png", "Training/a/0.png"], r"Training, train all mean train: remove or rename all but"
    )


def test_a_split_of_loose_images_does_not_hide_the_others(tmp_path):
    names = ["ILSVRC/train/a/0.png", "ILSVRC/train/b/0.png", "ILSVRC/val/0.png", "ILSVRC/test/0.png"]
    assert np.array_equal(read(tmp_path / "train", names).images, planes(IMAGES[:2]))
    refused(tmp_path, names, r"val/0\.png: lies in no class folder", split="val")


@pytest.mark.parametrize("form", FORMS)
def test_classes_have_the_numbers_of_the_train_split(tmp_path, form):
    names = ["train/a/0.png", "train/b/0.png", "train/c/0.png", "test/c/0.png", "test/a/0.png"]
    store = read(tmp_path, names, form, split="test")
    assert store.header.class_names == ("a", "b", "c")
    assert labels(store) == [0, 2]
    assert np.array_equal(store.images, planes(IMAGES[[4, 3]]))
    assert store.header.source["notes"] == ["class folders without images: b: their labels stay theirs"]


def test_classes_that_the_train_split_lacks_are_refused(tmp_path):
    names = ["train/a/0.png", "train/b/0.png", "val/images/0.png"]
    refused(tmp_path, names, r"val/images: no class of this name in .*train: rename it", split="val")


@pytest.mark.parametrize("root", ["", "set/", "set/train/"])
def test_folder_without_images_keeps_its_label(tmp_path, root):
    names = [f"{root}a/0.png", f"{root}c/0.png", f"{root}d/0.txt"]
    store = read(tmp_path, names, folders=[f"{root}b"])
    assert store.header.class_names == ("a", "b", "c", "d")
    assert labels(store) == [0, 2]
    first, second = store.header.source["notes"]
    assert first == "class folders without images: b, d: their labels stay theirs"
    assert second == f"{root}d/0.txt is not read"


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_empty_folder_of_an_archive_keeps_its_label(tmp_path, form):
    import shutil

    source = make_source(tmp_path / "folder", "folder", {"s/a/0.png": DATA[0], "s/c/0.png": DATA[1]})
    (source / "s" / "b").mkdir()
    archive = shutil.make_archive(str(tmp_path / "x"), form, source)
    report = import_images(ImportConfig(source=tmp_path / f"x.{form}", store=tmp_path / "store"))
    assert archive.endswith(form)
    assert labels(ImageStore.open(tmp_path / "store")) == [0, 2]
    assert report.notes == ["class folders without images: b: their labels stay theirs"]


def test_empty_folders_beside_the_only_class_are_named(tmp_path):
    store = read(tmp_path, ["a/x/0.png", "a/y/0.png"], folders=["b", "c/d"])
    assert store.header.class_names == ("x", "y")
    assert store.header.source["notes"] == ["no images in folders b, c, not read"]


def test_folders_inside_classes_are_named_where_they_differ(tmp_path):
    names = ["animals/cat/0.png", "animals/dog/0.png", "vehicles/car/0.png"]
    store = read(tmp_path, names)
    assert store.header.class_names == ("animals", "vehicles")
    assert store.header.source["notes"] == ["folders inside classes are not labels: car, cat, dog"]
    assert read(tmp_path / "same", ["a/images/0.png", "b/images/0.png"]).header.source["notes"] == []


def test_hidden_images_and_folders_are_named_but_not_those_of_machines(tmp_path):
    litter = ["__MACOSX/a/._0.png", "a/._0.png", "a/@eaDir/0.png", ".ipynb_checkpoints/0.png", "a/.DS_Store"]
    names = ["a/0.png", "b/0.png", *litter, "a/.1.png", ".old/a/0.png"]
    source = make_source(tmp_path, "zip", dict.fromkeys(names, DATA[0]))
    report = import_images(ImportConfig(source=source, store=tmp_path / "store"))
    assert report.notes == ["hidden files and folders are not read: .old, a/.1.png"]
    assert report.images == 2
    with pytest.raises(DataError, match=r"source\.zip: no files in it, but for hidden \.old: pass the folder or"):
        source = make_source(tmp_path / "hidden", "zip", {".old/a/0.png": DATA[0]})
        import_images(ImportConfig(source=source, store=tmp_path / "store2"))
