import numpy as np
import pytest

from postmean.base.errors import DataError
from postmean.contract.image_store import ImageStore
from postmean.importers.config import ImportConfig
from postmean.importers.run import import_images
from tests.support.image_files import make_source, planes, png, random_images

IMAGES = random_images(6)
DATA = [png(image) for image in IMAGES]
WNIDS = ["n03", "n01", "n02"]


def tiny(root="tiny-imagenet-200/"):
    rows = ["val_0.JPEG\tn02\t0\t0\t9\t9", "val_1.JPEG\tn03\t0\t0\t9\t9", "val_2.JPEG\tn02\t0\t0\t9\t9"]
    files = {
        "wnids.txt": "\n".join(WNIDS).encode(),
        "words.txt": b"n01\tcat\nn02\tdog\n",
        "val/val_annotations.txt": "\n".join(rows).encode(),
        "train/n01/images/n01_0.JPEG": DATA[0],
        "train/n01/n01_boxes.txt": b"n01_0.JPEG\t0\t0\t9\t9\n",
        "train/n03/images/n03_0.JPEG": DATA[1],
        "val/images/val_0.JPEG": DATA[2],
        "val/images/val_1.JPEG": DATA[3],
        "val/images/val_2.JPEG": DATA[4],
        "test/images/test_0.JPEG": DATA[5],
    }
    return {root + name: data for name, data in files.items()}


@pytest.mark.parametrize(("form", "root"), [("zip", "tiny-imagenet-200/"), ("folder", ""), ("tar.gz", "./x/")])
def test_tiny_imagenet_has_one_numbering_in_train_and_val(tmp_path, form, root):
    source = make_source(tmp_path, form, tiny(root))
    for split, chosen, expected in (("train", [0, 1], [0, 2]), ("val", [2, 3, 4], [1, 2, 1]), ("test", [5], None)):
        report = import_images(ImportConfig(source=source, store=tmp_path / split, split=split))  # type: ignore[arg-type]
        store = ImageStore.open(tmp_path / split)
        assert np.array_equal(store.images, planes(IMAGES[chosen]))
        assert (None if store.labels is None else store.labels.tolist()) == expected
        assert store.header.class_names == (None if split == "test" else ("n01", "n02", "n03"))
        first = {"train": "classes without images: n02", "val": "classes without images: n01", "test": "no labels"}
        assert report.notes[0].startswith(first[split])
        assert any("words.txt is not read" in note for note in report.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"val/val_annotations.txt": b"val_0.JPEG\tn02\nval_1.JPEG\tn03\n"},
            r"val_2\.JPEG.*: of no class in val_ann",
        ),
        (
            {"val/val_annotations.txt": b"val_0.JPEG\tn09\nval_1.JPEG\tn03\n"},
            r"val_0\.JPEG.*: of no class in wnids\.txt",
        ),
        (
            {"val/val_annotations.txt": b"val_0.JPEG\tn02\nval_0.JPEG\tn03\n"},
            r"val_0\.JPEG.*: of two classes in val_ann",
        ),
        ({"val/val_annotations.txt": b"\xff\0\n"}, r"val_annotations\.txt.*: no row of 2 columns in it"),
        ({"wnids.txt": b""}, r"wnids\.txt.*: no row of 1 columns in it"),
    ],
)
def test_damaged_lists_of_tiny_imagenet_are_refused(tmp_path, change, message):
    source = make_source(tmp_path, "zip", tiny("") | change)
    with pytest.raises(DataError, match=message):
        import_images(ImportConfig(source=source, store=tmp_path / "store", split="val"))


def test_without_wnids_the_train_folders_are_the_classes(tmp_path):
    files = {name: data for name, data in tiny("").items() if name != "wnids.txt"}
    source = make_source(tmp_path, "zip", files | {"train/n02/images/": b""})
    import_images(ImportConfig(source=source, store=tmp_path / "val", split="val"))
    store = ImageStore.open(tmp_path / "val")
    assert store.labels is not None
    assert store.labels.tolist() == [1, 2, 1]


@pytest.mark.parametrize("prefix", ["", "val/", "tiny-imagenet-200/val/"])
def test_the_val_folder_alone_has_the_classes_of_its_list(tmp_path, prefix):
    files = {prefix + name.removeprefix("val/"): data for name, data in tiny("").items() if name.startswith("val/")}
    report = import_images(ImportConfig(source=make_source(tmp_path, "zip", files), store=tmp_path / "store"))
    store = ImageStore.open(tmp_path / "store")
    assert store.labels is not None
    assert (store.labels.tolist(), store.header.class_names) == ([0, 1, 0], ("n02", "n03"))
    assert report.notes == ["bounding boxes of val_annotations.txt are not kept"]
