import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from postmean.contract.image_store import ImageStore
from postmean.importers.config import ImportConfig
from postmean.importers.run import import_images


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "split", "count", "classes", "size"),
    [
        ("cifar10-jpeg", "train", 50_000, 10, 32),
        ("cifar10-jpeg", "test", 10_000, 10, 32),
        ("imagenet64-50k-jpeg", "train", 50_500, 202, 64),
    ],
)
def test_real_archives_are_read_as_they_are(tmp_path, shared_data, name, split, count, classes, size):
    archive = shared_data / f"{name}.tar.xz"
    import_images(ImportConfig(source=archive, store=tmp_path / "store", split=split, channels="rgb"))
    store = ImageStore.open(tmp_path / "store")
    assert store.header.shape == (count, 3, size, size)
    assert store.classes == classes
    assert store.labels is not None

    with tarfile.open(archive) as tar:
        files = {m.name: tar.extractfile(m).read() for m in tar if m.isfile() and f"/{split}/" in m.name}  # type: ignore[union-attr]
    for i, path in enumerate(sorted(files)):
        if i % 97 == 0:
            oracle = np.asarray(Image.open(io.BytesIO(files[path])).convert("RGB")).transpose(2, 0, 1)
            assert np.array_equal(store.images[i], oracle), path
            assert store.header.class_names is not None
            assert store.header.class_names[store.labels[i]] == path.split("/")[2]
