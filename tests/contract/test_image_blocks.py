"""The images of a store are checked block by block, before their first use: the oracle is hashlib over the pixels."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from postmean.base.errors import DataError
from postmean.base.json_files import parse_json, to_json, unsealed
from postmean.contract.image_store import ImageStore, StoreWriter

COUNT, SHAPE = 700, (3, 40, 40)
PER_BLOCK = (1 << 20) // 4800
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE), np.uint8)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    with StoreWriter(tmp_path / "store", None, {}) as writer:
        writer.append(PIXELS, None)
        return writer.finish()


def damage(store: ImageStore, image: int) -> ImageStore:
    """Change the last pixel of an image; opened again."""
    file = store.path / "images.npy"
    data = bytearray(file.read_bytes())
    data[len(data) - (COUNT - image) * 4800 + 4799] ^= 1
    file.write_bytes(data)
    return ImageStore.open(store.path)


def test_there_is_a_hash_of_each_block(store: ImageStore) -> None:
    hashes = np.load(store.path / "block_hashes.npy")
    assert hashes.shape == (4, 32) and -(-COUNT // PER_BLOCK) == 4
    for block, row in enumerate(hashes):
        part = PIXELS[block * PER_BLOCK : (block + 1) * PER_BLOCK]
        assert row.tobytes() == hashlib.sha256(part.tobytes()).digest()


@pytest.mark.parametrize("image", [0, PER_BLOCK - 1, PER_BLOCK, COUNT - 1])
def test_images_of_a_damaged_block_are_refused_and_those_of_others_given(store: ImageStore, image: int) -> None:
    damaged = damage(store, image)
    others = np.flatnonzero(np.arange(COUNT) // PER_BLOCK != image // PER_BLOCK)
    assert np.array_equal(damaged.pixels(others), PIXELS[others])
    for entry in (image, COUNT + image, image // PER_BLOCK * PER_BLOCK):
        with pytest.raises(DataError, match=r"images\.npy: damaged: images .*: remove .* and import again, then index"):
            damaged.pixels(np.array([entry]))
    for _ in range(2):  # a refused block stays refused
        with pytest.raises(DataError, match="damaged"):
            _ = damaged.images
    mended = damage(store, image)
    assert np.array_equal(mended.images, PIXELS)


def test_a_block_is_hashed_once_in_a_process(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    sha256 = hashlib.sha256

    def count(data: memoryview) -> object:
        hashed.append(data.nbytes)
        return sha256(data)

    again = ImageStore.open(store.path)
    monkeypatch.setattr("postmean.contract.image_blocks.hashlib.sha256", count)
    again.pixels(np.array([1, 2, 3, COUNT - 1]))
    assert sorted(hashed) == [(COUNT - 3 * PER_BLOCK) * 4800, PER_BLOCK * 4800]
    for _ in range(2):
        assert np.array_equal(again.images, PIXELS)
        again.pixels(np.arange(COUNT))
    assert sum(hashed) == PIXELS.nbytes


def test_a_store_of_an_earlier_version_is_refused_by_name(store: ImageStore) -> None:
    header = store.path / "header.json"
    header.write_bytes(to_json(unsealed(parse_json(header.read_bytes())) | {"schema_version": 1}))
    with pytest.raises(DataError, match=r"schema_version 1, this postmean reads 2: remove .* and import again"):
        ImageStore.open(store.path)
