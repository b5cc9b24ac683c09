import io
import os
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from postmean.base.errors import DataError
from postmean.contract.image_store import ImageStore, fingerprint
from postmean.importers import run
from postmean.importers.config import ImportConfig
from postmean.importers.pixels import pool
from postmean.importers.run import import_images
from tests.support.image_files import FORMS, class_files, encoded, make_source, planes, png, random_images

IMAGES = random_images(7)
# order of torchvision's ImageFolder for class_files(IMAGES): classes sorted, then names
ORDER = [2, 5, 0, 3, 6, 1, 4]
LABELS = [0, 0, 1, 1, 1, 2, 2]


def read(source, store, **settings):
    import_images(ImportConfig(source=source, store=store, **({"workers": 1} | settings)))
    return ImageStore.open(store)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("root", ["", "data/", "./data/set/"])
def test_pixels_and_labels_are_those_of_the_files(tmp_path, form, root):
    source = make_source(tmp_path, form, {root + name: data for name, data in class_files(IMAGES).items()})
    store = read(source, tmp_path / "store")
    assert np.array_equal(store.images, planes(IMAGES)[ORDER])
    assert store.labels is not None
    assert store.labels.tolist() == LABELS
    assert store.header.class_names == ("ant", "cat", "dog")
    assert store.header.fingerprint == fingerprint(store.images, store.labels)


def test_jpeg_pixels_are_those_that_pillow_decodes(tmp_path):
    files = {f"a/{i}.JPEG": encoded(image, "JPEG", quality=90) for i, image in enumerate(random_images(3, (16, 16, 3)))}
    store = read(make_source(tmp_path, "zip", files), tmp_path / "store")
    oracle = np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in files.values()])
    assert np.array_equal(store.images, planes(oracle))


def test_grey_images_make_a_store_of_one_channel(tmp_path):
    images = random_images(4, (5, 6))
    store = read(make_source(tmp_path, "tar", class_files(images, ("one",))), tmp_path / "store")
    assert np.array_equal(store.images, planes(images))


@settings(max_examples=15)
@given(st.permutations(list(class_files(IMAGES).items())), st.sampled_from(["tar", "tar.gz", "zip"]))
def test_order_does_not_depend_on_the_archive(tmp_path_factory, members, form):
    folder = tmp_path_factory.mktemp("order")
    store = read(make_source(folder, form, dict(members)), folder / "store")
    assert np.array_equal(store.images, planes(IMAGES)[ORDER])


def test_store_does_not_depend_on_the_number_of_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "IMAGES_PER_WORKER", 1)
    monkeypatch.setattr(pool, "BATCH_BYTES", 500)  # batches of a few images
    files = class_files(random_images(50))
    files["cat/0003.png"] = b"broken"
    source = make_source(tmp_path, "zip", files)
    one, three = (read(source, tmp_path / str(n), workers=n, on_corrupt="skip") for n in (1, 3))
    assert len(one) == 49
    assert one.header == three.header


@pytest.mark.parametrize("form", FORMS)
def test_each_split_is_read_alone(tmp_path, form):
    files = {}
    for seed, split in enumerate(("train", "test", "val")):
        for name, data in class_files(random_images(3, seed=seed), ("x", "y")).items():
            files[f"set/{split}/{name}"] = data
    source = make_source(tmp_path, form, files)
    for seed, split in enumerate(("train", "test", "val")):
        store = read(source, tmp_path / split, split=split)
        assert np.array_equal(store.images, planes(random_images(3, seed=seed))[[0, 2, 1]])
        assert store.header.class_names == ("x", "y")


def test_a_class_may_be_named_train(tmp_path):
    store = read(make_source(tmp_path, "folder", class_files(IMAGES, ("car", "train", "test"))), tmp_path / "store")
    assert store.header.class_names == ("car", "test", "train")


def test_images_in_folders_inside_a_class_belong_to_it(tmp_path):
    files = {f"{c}/images/{c}_{i}.png": png(IMAGES[i]) for c in ("n1", "n2") for i in range(2)}
    store = read(make_source(tmp_path, "folder", files), tmp_path / "store")
    assert store.header.class_names == ("n1", "n2")
    assert np.array_equal(store.images, planes(IMAGES)[[0, 1, 0, 1]])


def test_other_files_are_counted_and_hidden_ones_are_not_seen(tmp_path):
    files = class_files(IMAGES) | {"cat/notes.txt": b"", "cat/.DS_Store": b"", "__MACOSX/cat/._0000.png": b""}
    store = read(make_source(tmp_path, "zip", files), tmp_path / "store")
    assert store.header.source["ignored"] == 1
    assert len(store) == 7


def test_class_folders_may_be_symbolic_links(tmp_path):
    real = make_source(tmp_path / "real", "folder", class_files(IMAGES))
    (tmp_path / "subset").mkdir()
    (tmp_path / "subset" / "dog").symlink_to(real / "dog")
    store = read(tmp_path / "subset", tmp_path / "store")
    assert np.array_equal(store.images, planes(IMAGES)[[1, 4]])


def test_hard_links_in_a_tar_are_images_too(tmp_path):
    source = make_source(tmp_path, "folder", {"a/0.png": png(IMAGES[0])})
    os.link(source / "a" / "0.png", source / "a" / "1.png")
    with tarfile.open(tmp_path / "links.tar.gz", "w:gz") as tar:
        tar.add(source, "set")
        assert any(member.islnk() for member in tar.getmembers())
    store = read(tmp_path / "links.tar.gz", tmp_path / "store")
    assert np.array_equal(store.images, planes(IMAGES)[[0, 0]])


@pytest.mark.parametrize(
    ("files", "split", "message"),
    [
        (["set/train/a/0.png"], "val", r"no val folder, there is train: pass another --split"),
        (["a/0.png", "b/0.png"], "test", r"no train, test or val folders in it: leave out --split test"),
        (["a/0.png", "1.png"], "train", r"source.*1\.png: lies in no class folder"),
    ],
)
def test_folders_of_another_layout_are_refused(tmp_path, files, split, message):
    source = make_source(tmp_path, "folder", dict.fromkeys(files, png(IMAGES[0])))
    with pytest.raises(DataError, match=message):
        read(source, tmp_path / "store", split=split)
    assert not (tmp_path / "store").exists()
