"""Each layout, from files that an independent writer made in the exact layout: the same pixels, labels and splits."""

import csv
import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image

from postmean.contract.image_store import ImageStore, fingerprint
from postmean.importers.config import ImportConfig
from postmean.importers.run import import_images
from tests.support.image_files import planes, png, random_images

TRAIN = random_images(10, (32, 32, 3))
TRAIN_LABELS = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
TEST = random_images(10, (32, 32, 3), seed=1)
TEST_LABELS = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
NAMES = ["ant", "bee", "cat", "dog", "eel"]
WNIDS = ["n01440764", "n01443537", "n01484850", "n01491361", "n01494475"]
PUBLISHED = ["n02119789 kit_fox", "n02100735 English_setter", "n02110185 Siberian_husky"]
SPLITS = {"train": (TRAIN, TRAIN_LABELS), "test": (TEST, TEST_LABELS)}


def flat(images):
    """Rows of planes, as in CIFAR's batches."""
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def tar(path, files, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_all(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def cifar_10_python(folder):
    files = {"batches.meta": pickle.dumps({"label_names": NAMES, "num_cases_per_batch": 2, "num_vis": 3072}, 2)}
    for i in range(5):
        part = slice(2 * i, 2 * i + 2)
        batch = {"data": flat(TRAIN[part]), "labels": TRAIN_LABELS[part], "batch_label": "x", "filenames": ["x"] * 2}
        files[f"data_batch_{i + 1}"] = pickle.dumps(batch, 2)
    return files


def cifar_100_python(folder):
    files = {"meta": pickle.dumps({"fine_label_names": NAMES, "coarse_label_names": ["x", "y"]}, 2)}
    for split, (images, labels) in SPLITS.items():
        batch = {"data": flat(images), "fine_labels": labels, "coarse_labels": [n % 2 for n in labels]}
        files[split] = pickle.dumps(batch | {"batch_label": "x", "filenames": ["x"] * len(images)}, 2)
    return tar(folder / "cifar-100-python.tar.gz", {f"cifar-100-python/{n}": d for n, d in files.items()}, "w:gz")


def cifar_10_binary(folder):
    rows = {f"data_batch_{i + 1}.bin": (TRAIN[2 * i : 2 * i + 2], TRAIN_LABELS[2 * i : 2 * i + 2]) for i in range(5)}
    rows["test_batch.bin"] = (TEST, TEST_LABELS)
    files = {"batches.meta.txt": ("\n".join(NAMES) + "\n\n").encode(), "readme.html": b"x"}
    for name, (images, labels) in rows.items():
        files[name] = np.column_stack([np.array(labels, np.uint8), flat(images)]).tobytes()
    return tar(folder / "x.tar.gz", {f"cifar-10-batches-bin/{name}": data for name, data in files.items()}, "w:gz")


def cifar_100_binary(folder):
    files = {"fine_label_names.txt": "\n".join(NAMES).encode(), "coarse_label_names.txt": b"x\ny\n"}
    for split, (images, labels) in SPLITS.items():
        coarse = np.array(labels, np.uint8) % 2
        files[f"{split}.bin"] = np.column_stack([coarse, np.array(labels, np.uint8), flat(images)]).tobytes()
    return write_all(folder / "cifar-100-binary", files)


def imagenet(images, labels):
    return {"data": flat(images), "labels": [label + 1 for label in labels], "mean": flat(images).mean(0)}


def imagenet_pickles(folder):
    files = {f"train_data_batch_{i + 1}": imagenet(TRAIN[i::10], TRAIN_LABELS[i::10]) for i in range(10)}
    files["val_data"] = {k: v for k, v in imagenet(TEST, TEST_LABELS).items() if k != "mean"}
    return write_all(folder / "imagenet", {name: pickle.dumps(batch, 4) for name, batch in files.items()})


def imagenet_npz(folder):
    (folder / "npz").mkdir()
    for i in range(10):
        np.savez(folder / "npz" / f"train_data_batch_{i + 1}.npz", **imagenet(TRAIN[i::10], TRAIN_LABELS[i::10]))
    np.savez(folder / "npz" / "val_data.npz", **imagenet(TEST, TEST_LABELS))
    return folder / "npz"


def imagenet_zips(folder):
    """The two zips of pickles of train, and that of val, in one folder, as downloaded."""
    pickles = imagenet_pickles(folder)
    (folder / "zips").mkdir()
    for zipped, numbers in (("part1", range(1, 6)), ("part2", range(6, 11))):
        with zipfile.ZipFile(folder / "zips" / f"Imagenet32_train_{zipped}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for i in numbers:
                archive.write(pickles / f"train_data_batch_{i}", f"train_data_batch_{i}")
    with zipfile.ZipFile(folder / "zips" / "Imagenet32_val.zip", "w") as archive:
        archive.write(pickles / "val_data", "val_data")
    return folder / "zips"


def imagenet_zip_of_npz(folder):
    source = imagenet_npz(folder)
    with zipfile.ZipFile(folder / "Imagenet32_npz.zip", "w") as archive:
        for path in source.iterdir():
            archive.write(path, path.name)
    return folder / "Imagenet32_npz.zip"


def edm_zip(folder):
    with zipfile.ZipFile(folder / "x.zip", "w") as archive:
        pairs = []
        for i, image in enumerate(TRAIN):
            name = f"{i // 1000:05d}/img{i:08d}.png"
            archive.writestr(name, png(image, compress_level=0))
            pairs.append([name, TRAIN_LABELS[i]])
        archive.writestr("dataset.json", json.dumps({"labels": pairs}))
    return folder / "x.zip"


LOSSLESS = ["png", "bmp", "tiff", "ppm", "webp", "tga", "pcx", "sgi", "im", "qoi"]


def folders(folder):
    """ImageFolder, each image in another file type of Pillow."""
    for split, (images, labels) in SPLITS.items():
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = folder / "set" / split / NAMES[label] / f"{i:03}.{LOSSLESS[i % len(LOSSLESS)]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path, **({"lossless": True} if path.suffix == ".webp" else {}))
    return folder / "set"


def adm_folder(folder):
    files = {f"{split}/{NAMES[n]}_{i:05}.png": png(x[i]) for split, (x, y) in SPLITS.items() for i, n in enumerate(y)}
    return write_all(folder / "adm", files)


def adm_zip(folder):
    with zipfile.ZipFile(folder / "cifar_train.zip", "w") as archive:
        for i, label in enumerate(TRAIN_LABELS):
            archive.writestr(f"cifar_train/{NAMES[label]}_{i:05}.png", png(TRAIN[i]))
    return folder / "cifar_train.zip"


def adm_npz(folder):
    np.savez(folder / "samples.npz", TRAIN, np.array(TRAIN_LABELS))  # arr_0, arr_1, as guided diffusion's scripts
    return folder / "samples.npz"


def keras_npz(folder):
    arrays = {f"x_{split}": images for split, (images, _) in SPLITS.items()}
    labels = {f"y_{split}": np.array(labels, np.uint8) for split, (_, labels) in SPLITS.items()}
    np.savez_compressed(folder / "set.npz", **arrays, **labels)
    return folder / "set.npz"


def npy_files(folder):
    (folder / "npy").mkdir()
    for split, (images, labels) in SPLITS.items():
        np.save(folder / "npy" / f"{split}_images.npy", images.transpose(0, 3, 1, 2))
        np.save(folder / "npy" / f"{split}_labels.npy", np.eye(5)[labels])
    return folder / "npy"


def ilsvrc_tar_of_tars(folder):
    inner = {}
    for n, wnid in enumerate(WNIDS):
        names = {f"{wnid}_{i}.JPEG": png(TRAIN[i]) for i in range(10) if TRAIN_LABELS[i] == n}
        inner[f"{wnid}.tar"] = tar(folder / "inner.tar", names).read_bytes()
    return tar(folder / "ILSVRC2012_img_train.tar", inner)


def ilsvrc_downloads(folder):
    """Train, val and devkit as torchvision.datasets.ImageNet wants them in one folder."""
    (folder / "root").mkdir()
    ilsvrc_tar_of_tars(folder).rename(folder / "root" / "ILSVRC2012_img_train.tar")
    val = {f"ILSVRC2012_val_{i + 1:08}.JPEG": png(image) for i, image in enumerate(TEST)}
    tar(folder / "root" / "ILSVRC2012_img_val.tar", val)
    # ILSVRC2012_ID of tench, goldfish, great white shark, tiger shark, hammerhead, from the devkit's meta.mat
    ids = [449, 450, 442, 443, 444]
    truth = "".join(f"{ids[label]}\n" for label in TEST_LABELS).encode()
    name = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
    tar(folder / "root" / "ILSVRC2012_devkit_t12.tar.gz", {name: truth}, "w:gz")
    return folder / "root"


def hf_parquet(folder):
    for split, (images, labels) in (("train", SPLITS["train"]), ("validation", SPLITS["test"])):
        (folder / "hub" / "data").mkdir(parents=True, exist_ok=True)
        for part in (0, 1):
            cells = [
                {"bytes": png(image), "path": f"{i}.png"} for i, image in enumerate(images[5 * part : 5 * part + 5])
            ]
            table = pa.table({"img": cells, "label": pa.array(labels[5 * part : 5 * part + 5], pa.int64())})
            features = {"img": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
            pq.write_table(table, folder / "hub" / "data" / f"{split}-0000{part}-of-00002.parquet", row_group_size=3)
    (folder / "hub" / "README.md").write_text("x")
    return folder / "hub"


def parquet_of_arrays(folder):
    """Array3D cells: nested lists."""
    table = pa.table(
        {"image": pa.array(TRAIN.tolist(), pa.list_(pa.list_(pa.list_(pa.uint8())))), "label": TRAIN_LABELS}
    )
    pq.write_table(table, folder / "x.parquet")
    return folder / "x.parquet"


def webdataset_shards(folder):
    (folder / "wds").mkdir()
    for split, (images, labels) in SPLITS.items():
        pattern = str(folder / "wds" / f"set-{split}-%06d.tar")
        with webdataset.ShardWriter(pattern, maxcount=4, verbose=0) as sink:
            for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                sink.write({"__key__": f"{i:06}", "png": png(image), "cls": label})
    return folder / "wds"


def webdataset_json(folder):
    with webdataset.TarWriter(str(folder / "x.tar")) as sink:
        for i, (image, label) in enumerate(zip(TRAIN, TRAIN_LABELS, strict=True)):
            sink.write({"__key__": f"{i:06}", "png": png(image), "json": {"label": NAMES[label]}})
    return folder / "x.tar"


def cifar_10_folder(folder):
    files = cifar_10_python(folder)
    files["test_batch"] = pickle.dumps({"data": flat(TEST[:2]), "labels": TEST_LABELS[:2]}, 2)
    return write_all(folder / "cifar-10-batches-py", files)


LAYOUTS = [
    # writer, kind, classes, split of TEST
    (cifar_10_folder, "cifar", NAMES, None),
    (cifar_100_python, "cifar", NAMES, "test"),
    (cifar_10_binary, "cifar-binary", NAMES, "test"),
    (cifar_100_binary, "cifar-binary", NAMES, "test"),
    (imagenet_pickles, "imagenet-batches", PUBLISHED, "val"),
    (imagenet_npz, "imagenet-batches", PUBLISHED, "val"),
    (imagenet_zips, "imagenet-batches", PUBLISHED, "val"),
    (imagenet_zip_of_npz, "imagenet-batches", PUBLISHED, "val"),
    (edm_zip, "edm", list("01234"), None),
    (folders, "folders", NAMES, "test"),
    (adm_folder, "adm", NAMES, "test"),
    (adm_zip, "adm", NAMES, None),
    (adm_npz, "arrays", list("01234"), None),
    (keras_npz, "arrays", list("01234"), "test"),
    (npy_files, "arrays", list("01234"), "test"),
    (ilsvrc_tar_of_tars, "folders", WNIDS, None),
    (ilsvrc_downloads, "ilsvrc", WNIDS, "val"),
    (hf_parquet, "parquet", NAMES, "val"),
    (parquet_of_arrays, "parquet", list("01234"), None),
    (webdataset_shards, "webdataset", list("01234"), "test"),
    (webdataset_json, "webdataset", NAMES, None),
]


def read(source, store, **settings):
    report = import_images(ImportConfig(source=source, store=store, workers=1, **settings))
    return ImageStore.open(store), report


@pytest.mark.parametrize(("write", "kind", "classes", "other"), LAYOUTS, ids=[row[0].__name__ for row in LAYOUTS])
def test_the_same_pixels_and_labels_give_the_same_fingerprint(tmp_path, write, kind, classes, other):
    source = write(tmp_path)
    # the batches of ImageNet hold one image each here, dealt in turn: their order is that of the others
    store, report = read(source, tmp_path / "store")
    assert report.kind == kind
    assert np.array_equal(store.images, planes(TRAIN))
    assert store.labels is not None
    assert store.labels.tolist() == TRAIN_LABELS
    assert store.header.class_names is not None
    assert list(store.header.class_names[: len(classes)]) == classes
    assert store.header.fingerprint == fingerprint(planes(TRAIN), np.array(TRAIN_LABELS))
    if other:
        store, _ = read(source, tmp_path / "other", split=other)
        assert store.header.fingerprint == fingerprint(planes(TEST), np.array(TEST_LABELS))
        assert list((store.header.class_names or ())[: len(classes)]) == classes


def idx(array):
    """A file as on MNIST's page: magic number, sizes, bytes."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.mark.parametrize("zipped", [True, False])
def test_mnist_with_its_labels_and_splits(tmp_path, zipped):
    grey = random_images(6, (28, 28))
    sets = {"train": (grey[:4], [3, 0, 1, 1]), "t10k": (grey[4:], [2, 0])}
    files = {}
    for name, (images, labels) in sets.items():
        files[f"{name}-images-idx3-ubyte"] = idx(images)
        files[f"{name}-labels-idx1-ubyte"] = idx(np.array(labels, np.uint8))
    if zipped:
        files = {f"{name}.gz": gzip.compress(data) for name, data in files.items()}
    source = write_all(tmp_path / "MNIST" / "raw", files)
    for split, (images, labels) in (("train", sets["train"]), ("test", sets["t10k"])):
        store, report = read(source, tmp_path / split, split=split)
        assert (report.kind, report.notes) == ("mnist", [])
        assert store.header.fingerprint == fingerprint(planes(images), np.array(labels))
    store, report = read(source / next(iter(files)), tmp_path / "alone")
    assert np.array_equal(store.images, planes(grey[:4]))
    assert report.notes == ["no labels: there is no train-labels-idx1-ubyte"]


def test_a_flat_folder_has_no_labels_and_says_so(tmp_path):
    write_all(tmp_path / "photos", {f"IMG_{i:04}.png": png(image) for i, image in enumerate(TRAIN)})
    store, report = read(tmp_path / "photos", tmp_path / "store")
    assert (report.kind, store.labels) == ("flat", None)
    assert store.header.fingerprint == fingerprint(planes(TRAIN), None)
    assert report.notes == ["no labels: 10 images such as IMG_0000.png, whose folders and names are not kept"]


def test_a_single_array_is_the_images_whatever_its_name(tmp_path):
    np.save(tmp_path / "faces.npy", TRAIN)
    store, report = read(tmp_path / "faces.npy", tmp_path / "store")
    assert np.array_equal(store.images, planes(TRAIN))
    assert report.notes == ["no labels: there is no array of them, such as labels, y or arr_1"]


@pytest.mark.parametrize("write", [cifar_100_python, cifar_100_binary])
def test_the_coarse_label_of_cifar_100_is_kept_when_asked(tmp_path, write):
    store, _ = read(write(tmp_path), tmp_path / "store", label="coarse")
    assert store.labels is not None
    assert store.labels.tolist() == [label % 2 for label in TRAIN_LABELS]
    assert store.header.class_names == ("x", "y")


def test_imagenet_names_come_from_the_list_beside_the_batches(tmp_path):
    source = imagenet_pickles(tmp_path)
    (source / "map_clsloc.txt").write_text("\n".join(f"{wnid} {i + 1} name_{i}" for i, wnid in enumerate(WNIDS)))
    store, report = read(source, tmp_path / "store")
    assert store.header.class_names == tuple(f"{wnid} name_{i}" for i, wnid in enumerate(WNIDS))
    assert "fields of the batches that are not kept: mean" in report.notes


def test_imagenet_says_which_batches_are_not_there(tmp_path):
    source = imagenet_npz(tmp_path)
    for i in range(3, 11):
        (source / f"train_data_batch_{i}.npz").unlink()
    store, report = read(source, tmp_path / "store")
    assert store.labels is not None
    assert store.labels.tolist() == [0, 0]
    assert any(note.startswith("of 10 batches train_data_batch_3, train_data_batch_4,") for note in report.notes)
    single, _ = read(source / "train_data_batch_1.npz", tmp_path / "one")
    assert len(single) == 1


def test_kaggle_imagenet_val_is_labelled_by_its_solution(tmp_path):
    files = {f"Data/CLS-LOC/train/{WNIDS[n]}/{WNIDS[n]}_{i}.JPEG": png(TRAIN[i]) for i, n in enumerate(TRAIN_LABELS)}
    files |= {f"Data/CLS-LOC/val/ILSVRC2012_val_{i + 1:08}.JPEG": png(image) for i, image in enumerate(TEST)}
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(["ImageId", "PredictionString"])
    rows.writerows([f"ILSVRC2012_val_{i + 1:08}", f"{WNIDS[n]} 1 2 3 4 "] for i, n in enumerate(TEST_LABELS))
    source = write_all(tmp_path / "kaggle", files | {"LOC_val_solution.csv": table.getvalue().encode()})
    for split, (images, labels) in (("train", SPLITS["train"]), ("val", SPLITS["test"])):
        store, _ = read(source, tmp_path / split, split=split)
        assert store.header.fingerprint == fingerprint(planes(images), np.array(labels))


def test_another_column_is_the_label_when_asked_and_the_rest_is_named(tmp_path):
    cells = [{"bytes": png(image), "path": None} for image in TRAIN]
    table = pa.table({"image": cells, "fine_label": TRAIN_LABELS, "coarse_label": [1, 0] * 5, "caption": NAMES * 2})
    pq.write_table(table, tmp_path / "x.parquet")
    store, report = read(tmp_path / "x.parquet", tmp_path / "fine")
    assert store.labels is not None
    assert store.labels.tolist() == TRAIN_LABELS
    assert report.notes == ["columns that are not kept: coarse_label, caption"]
    store, _ = read(tmp_path / "x.parquet", tmp_path / "coarse", label="coarse_label")
    assert store.labels is not None
    assert store.labels.tolist() == [1, 0] * 5
    store, _ = read(tmp_path / "x.parquet", tmp_path / "caption", label="caption")
    assert store.header.class_names == tuple(NAMES)
