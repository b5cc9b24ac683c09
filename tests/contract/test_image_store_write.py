"""A Python iterator of (image, label) is a source: the store is that of the same images in files."""

import numpy as np
import pytest
import torch
from PIL import Image

from postmean.base.errors import DataError
from postmean.contract.image_store import ImageStore, fingerprint
from tests.support.image_files import class_files, encoded, make_source, planes, random_images
from tests.support.imports import imported

IMAGES = random_images(6, (8, 9, 3))
LABELS = [0, 0, 1, 1, 2, 2]
FORMS = {
    "Pillow": Image.fromarray,
    "numpy HWC": lambda image: image,
    "numpy CHW": lambda image: image.transpose(2, 0, 1),
    "torch CHW": lambda image: torch.from_numpy(image.transpose(2, 0, 1).copy()),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_store_is_that_of_these_pixels_and_labels(tmp_path, form):
    pairs = ((FORMS[form](image), label) for image, label in zip(IMAGES, LABELS, strict=True))
    store = ImageStore.write(tmp_path / "store", pairs, class_names=["ant", "bee", "cat"])
    assert store.header.fingerprint == fingerprint(planes(IMAGES), np.array(LABELS))
    assert store.header.class_names == ("ant", "bee", "cat")
    assert store.header.source == {"importer": "python"}


@pytest.mark.slow
def test_a_data_set_of_torchvision_is_written_as_its_files_are_imported(tmp_path):
    import torchvision

    folder = make_source(tmp_path, "folder", class_files(random_images(300)))
    written = ImageStore.write(tmp_path / "written", torchvision.datasets.ImageFolder(str(folder)))
    assert written.header.fingerprint == imported(tmp_path, folder).header.fingerprint
    assert written.header.class_names == ("0", "1", "2")


def test_images_without_labels_and_grey_ones(tmp_path):
    store = ImageStore.write(tmp_path / "store", ((image[:, :, 0], None) for image in IMAGES))
    assert (store.labels, store.header.class_names) == (None, None)
    assert np.array_equal(store.images, IMAGES[:, None, :, :, 0])


def turned():
    exif = Image.Exif()
    exif[0x112] = 6
    import io

    return Image.open(io.BytesIO(encoded(Image.fromarray(IMAGES[0]), "PNG", exif=exif)))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], r"the iterator yields no image"),
        ([IMAGES[0]], r"image 0: expected a pair \(image, label\), got ndarray"),
        ([(IMAGES[0] / 255, 0)], r"image 0: float64 pixels, expected uint8 0\.\.255"),
        ([(Image.fromarray(IMAGES[0]).convert("P"), 0)], r"image 0: a Pillow image of mode P"),
        ([(turned(), 0)], r"image 0: not upright, as its EXIF data say"),
        ([(IMAGES[0], 0), (IMAGES[0][1:], 0)], r"image 1: shape \[3, 7, 9\], the one before \[3, 8, 9\]"),
        ([(IMAGES[0], 0), (IMAGES[1], None)], r"image 1: no label, unlike the first"),
        ([(IMAGES[0], None), (IMAGES[1], 0)], r"image 1: a label, unlike the first"),
        ([(IMAGES[0], -1)], r"image 0: label -1: expected an integer"),
        ([(IMAGES[0], 1.5)], r"image 0: label 1\.5: expected an integer"),
        ([(IMAGES[0], True)], r"image 0: label True: expected an integer"),
        ([(IMAGES[0], 10**9)], r"label 1000000000: more than 65,536 classes"),
        ([(IMAGES[0][:, :, :2], 0)], r"image 0: an image of shape \[8, 9, 2\]: neither end"),
        ([(np.zeros((3, 5, 3), np.uint8), 0)], r"image 0: an image of shape \[3, 5, 3\]: either end"),
    ],
)
def test_what_is_no_image_or_label_is_refused_and_leaves_nothing(tmp_path, pairs, message):
    with pytest.raises(DataError, match=message):
        ImageStore.write(tmp_path / "store", iter(pairs))
    assert not list(tmp_path.iterdir())
