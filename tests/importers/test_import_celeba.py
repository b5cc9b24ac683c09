import numpy as np
import pytest

from postmean.base.errors import DataError
from postmean.contract.image_store import ImageStore
from postmean.importers.config import ImportConfig
from postmean.importers.run import import_images
from tests.support.image_files import make_source, planes, png, random_images

IMAGES = random_images(6)
DATA = [png(image) for image in IMAGES]


MALE = [1, -1, -1, 1, 1, -1]


def attributes(form):
    """As published, or as on Kaggle."""
    if form == "csv":
        rows = [f"{i:06}.jpg,-1,{male}" for i, male in enumerate(MALE)]
        return "\n".join(["image_id,Bald,Male", *rows]).encode()
    rows = [f"{i:06}.jpg -1 {male:2}" for i, male in enumerate(MALE)]
    return "\n".join(["6", "Bald Male ", *rows]).encode()


def celeba(form="txt", root="celeba/", folder="img_align_celeba/"):
    separator = "," if form == "csv" else " "
    head = ["image_id,partition"] if form == "csv" else []
    rows = [f"{i:06}.jpg{separator}{part}" for i, part in enumerate([0, 0, 1, 2, 0, 1])]
    files: dict[str, bytes] = {f"{folder}{i:06}.jpg": DATA[i] for i in range(6)}
    files |= {
        f"list_eval_partition.{form}": "\n".join([*head, *rows]).encode(),
        f"list_attr_celeba.{form}": attributes(form),
    }
    return {root + name: data for name, data in files.items()}


@pytest.mark.parametrize("form", ["txt", "csv"])
@pytest.mark.parametrize(
    "folder", ["img_align_celeba/", "img_align_celeba/img_align_celeba/", "Img/img_align_celeba_png/"]
)
def test_celeba_is_split_by_its_list_and_has_no_invented_class(tmp_path, form, folder):
    source = make_source(tmp_path, "zip", celeba(form, folder=folder))
    for split, chosen in (("train", [0, 1, 4]), ("val", [2, 5]), ("test", [3])):
        report = import_images(ImportConfig(source=source, store=tmp_path / split, split=split))  # type: ignore[arg-type]
        store = ImageStore.open(tmp_path / split)
        assert np.array_equal(store.images, planes(IMAGES[chosen]))
        assert store.labels is None
        assert report.notes == ["no labels: 2 attributes are there for --label, such as Bald"]


def test_celeba_as_downloaded_with_its_zip_of_images(tmp_path):
    files = celeba(root="")
    images = {name: data for name, data in files.items() if name.startswith("img_")}
    source = make_source(tmp_path, "folder", {name: data for name, data in files.items() if name not in images})
    make_source(tmp_path, "zip", images).rename(source / "img_align_celeba.zip")
    report = import_images(ImportConfig(source=source, store=tmp_path / "store", split="val", label="Male"))
    store = ImageStore.open(tmp_path / "store")
    assert report.kind == "celeba"
    assert np.array_equal(store.images, planes(IMAGES[[2, 5]]))
    assert store.labels is not None
    assert store.labels.tolist() == [0, 0]


def test_celeba_without_its_list_is_said_to_hold_all_splits(tmp_path):
    files = {f"img_align_celeba/{i:06}.jpg": DATA[i] for i in range(6)}
    source = make_source(tmp_path, "zip", files)
    report = import_images(ImportConfig(source=source, store=tmp_path / "store"))
    assert (report.images, report.classes) == (6, 0)
    assert report.notes == ["images of all splits: there is no list_eval_partition.txt"]
    with pytest.raises(DataError, match=r"no list_eval_partition\.txt in it: put it beside the images"):
        import_images(ImportConfig(source=source, store=tmp_path / "val", split="val"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0, 0, 1, 2, 0], r"000005\.jpg in .*: not in .*list_eval_partition\.txt"),
        ([], r"list_eval_partition\.txt in .*: no row of 2 columns in it"),
    ],
)
def test_celeba_list_that_does_not_fit_its_images_is_refused(tmp_path, rows, message):
    lines = "\n".join(f"{i:06}.jpg {part}" for i, part in enumerate(rows)).encode()
    source = make_source(tmp_path, "zip", celeba() | {"celeba/list_eval_partition.txt": lines})
    with pytest.raises(DataError, match=message):
        import_images(ImportConfig(source=source, store=tmp_path / "store"))


def test_listed_images_that_are_not_there_are_noted(tmp_path):
    files = {name: data for name, data in celeba().items() if "000004" not in name}
    report = import_images(ImportConfig(source=make_source(tmp_path, "zip", files), store=tmp_path / "store"))
    assert report.images == 2
    assert "1 image of celeba/list_eval_partition.txt not there, such as 000004" in report.notes


@pytest.mark.parametrize("form", ["txt", "csv"])
def test_an_attribute_or_the_person_is_the_label_when_asked(tmp_path, form):
    files = celeba(form) | {
        "celeba/identity_CelebA.txt": "\n".join(
            f"{i:06}.jpg {n}" for i, n in enumerate([30, 7, 7, 30, 200, 8])
        ).encode()
    }
    source = make_source(tmp_path, "zip", files)
    report = import_images(ImportConfig(source=source, store=tmp_path / "male", label="Male"))
    store = ImageStore.open(tmp_path / "male")
    assert store.labels is not None
    assert store.labels.tolist() == [int(MALE[i] == 1) for i in (0, 1, 4)]
    assert store.header.class_names == ("not Male", "Male")
    assert report.notes == ["attributes that are not kept: Bald", "celeba/identity_CelebA.txt is not read"]
    import_images(ImportConfig(source=source, store=tmp_path / "person", label="identity"))
    store = ImageStore.open(tmp_path / "person")
    assert store.labels is not None
    assert store.labels.tolist() == [2, 0, 3]
    assert store.header.class_names == ("7", "8", "30", "200")
    with pytest.raises(DataError, match=r"no label Old: pass --label with one of Bald, Male, identity"):
        import_images(ImportConfig(source=source, store=tmp_path / "old", label="Old"))
