"""What the `datasets` library of Hugging Face writes: save_to_disk and to_parquet, with its own pixels and labels."""

import numpy as np
import pytest

from postmean.contract.image_store import ImageStore, fingerprint
from postmean.importers.config import ImportConfig
from postmean.importers.run import import_images
from tests.support.image_files import planes, random_images

IMAGES = {"train": random_images(7, (8, 8, 3)), "test": random_images(3, (8, 8, 3), seed=1)}
LABELS = {"train": [2, 0, 1, 1, 2, 0, 0], "test": [1, 0, 2]}
NAMES = ["ant", "bee", "cat"]


@pytest.mark.slow
def test_save_to_disk_and_to_parquet_are_read_as_datasets_reads_them(tmp_path):
    import datasets
    from PIL import Image

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    arrays = datasets.Features({"image": datasets.Array3D((8, 8, 3), "uint8"), "label": datasets.Value("int64")})
    pictures, cells = datasets.DatasetDict(), datasets.DatasetDict()
    for split, images in IMAGES.items():
        rows = {"image": [Image.fromarray(image) for image in images], "label": LABELS[split]}
        pictures[split] = datasets.Dataset.from_dict(rows, features)
        cells[split] = datasets.Dataset.from_dict({"image": images, "label": LABELS[split]}, arrays)
    pictures.save_to_disk(tmp_path / "pictures", num_shards={"train": 3, "test": 1})
    cells.save_to_disk(tmp_path / "cells")
    for split, part in pictures.items():
        part.to_parquet(tmp_path / "parquet" / f"{split}-00000-of-00001.parquet")
    for split, part in cells.items():
        part.to_parquet(tmp_path / "array-parquet" / f"{split}-00000-of-00001.parquet")
    # a cache that map() leaves in the folder is no part of the data set
    saved = datasets.load_from_disk(str(tmp_path / "pictures" / "train"))
    saved.map(lambda row: {"label": 0}, cache_file_name=str(tmp_path / "pictures" / "train" / "cache-1.arrow"))

    for name in ("pictures", "cells", "parquet", "array-parquet"):
        for split in ("train", "test"):
            store_path = tmp_path / f"{name}-{split}.store"
            report = import_images(ImportConfig(source=tmp_path / name, store=store_path, split=split))  # type: ignore[arg-type]
            store = ImageStore.open(store_path)
            assert store.header.fingerprint == fingerprint(planes(IMAGES[split]), np.array(LABELS[split]))
            assert report.kind == ("parquet" if "parquet" in name else "arrow")
            if name in ("pictures", "parquet"):
                assert store.header.class_names == tuple(NAMES)
    written = ImageStore.write(tmp_path / "written", ((row["image"], row["label"]) for row in pictures["train"]), NAMES)
    assert written.header.fingerprint == ImageStore.open(tmp_path / "pictures-train.store").header.fingerprint
