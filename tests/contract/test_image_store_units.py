"""The image store: units, flips, and what it refuses."""

import json
from dataclasses import replace

import numpy as np
import pytest

from postmean.base.errors import DataError
from postmean.base.json_files import to_sealed_json
from postmean.contract.image_store import ImageStore, StoreWriter, fingerprint, to_pixels, to_unit

ALL = np.arange(256, dtype=np.uint8)
PIXELS = np.random.default_rng(0).integers(0, 256, (9, 3, 4, 5)).astype(np.uint8)
LABELS = np.arange(9) % 3


@pytest.fixture
def store(tmp_path) -> ImageStore:
    with StoreWriter(tmp_path / "store", ("a", "b", "c"), {"importer": "test"}) as writer:
        writer.append(PIXELS[:4], LABELS[:4])
        writer.append(PIXELS[4:], LABELS[4:])
        return writer.finish(skipped=2)


def test_units_and_pixels_are_each_others_inverse():
    x = to_unit(ALL)
    assert x.dtype == np.float32
    assert np.abs(x - (ALL / 127.5 - 1)).max() < 2e-7
    assert np.array_equal(to_pixels(x), ALL)
    assert np.array_equal(to_pixels(x.astype(np.float64)), ALL)
    wiggle = np.random.default_rng(0).uniform(-0.49, 0.49, (50, 256)) / 127.5
    assert (to_pixels(x + wiggle) == ALL).all()
    assert to_pixels(np.array([-7.0, 7.0, -np.inf, np.inf])).tolist() == [0, 255, 0, 255]


def test_store_gives_back_images_labels_and_mirror_images(store, tmp_path):
    assert (len(store), store.dim, store.classes, store.image_shape) == (9, 60, 3, (3, 4, 5))
    entries = np.array([0, 8, 9, 17, 3, 12])
    expected = np.concatenate([PIXELS, PIXELS[..., ::-1]])[entries]
    assert np.array_equal(store.pixels(entries), expected)
    assert store.label(entries).tolist() == LABELS[entries % 9].tolist()
    assert np.array_equal(np.load(tmp_path / "store" / "images.npy", mmap_mode="r"), PIXELS)
    assert store.header.source == {"importer": "test", "skipped": 2}
    assert not store.images.flags.writeable


def test_fingerprint_is_of_the_content(store):
    assert store.header.fingerprint == fingerprint(PIXELS, LABELS)
    changed = PIXELS.copy()
    changed[5, 2, 3, 4] ^= 1
    others = {fingerprint(changed, LABELS), fingerprint(PIXELS, None), fingerprint(PIXELS, LABELS[::-1])}
    others.add(fingerprint(PIXELS.reshape(9, 3, 5, 4), LABELS))
    assert len(others | {store.header.fingerprint}) == 5


def test_nothing_appears_before_finish_and_nothing_is_overwritten(tmp_path):
    path = tmp_path / "store"
    with pytest.raises(RuntimeError), StoreWriter(path, None, {}) as writer:
        writer.append(PIXELS, None)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="no images"), StoreWriter(path, None, {}) as writer:
        writer.finish()
    path.mkdir()
    with pytest.raises(DataError, match="already there"):
        StoreWriter(path, None, {})


def test_batches_that_do_not_fit_are_refused(tmp_path):
    with StoreWriter(tmp_path / "store", ("a",), {}) as writer:
        writer.append(PIXELS, np.zeros(9, np.int64))
        for pixels, labels in (
            (PIXELS.astype(np.int16), np.zeros(9)),
            (PIXELS[0], np.zeros(3)),
            (PIXELS[:, :1], np.zeros(9)),
            (PIXELS, None),
            (PIXELS, np.zeros(8)),
        ):
            with pytest.raises(DataError):
                writer.append(pixels, labels)
        writer.append(PIXELS, np.ones(9, np.int64))
        with pytest.raises(DataError, match=r"labels 0..1, expected 0..0"):
            writer.finish()


def test_damaged_store_is_refused(store):
    with pytest.raises(DataError, match="postmean import"):
        ImageStore.open(store.path / "nowhere")
    header = (store.path / "header.json").read_text()
    for text in ("", "{", "[]", "null", json.dumps(json.loads(header) | {"schema_version": 99})):
        (store.path / "header.json").write_text(text)
        with pytest.raises(DataError, match="import again"):
            ImageStore.open(store.path)
    for shape in ([9, 0, 4, 5], [0, 3, 4, 5], [9, -3, 4, 5], [9, 1 << 32, 1 << 32, 1]):  # sealed, by someone
        (store.path / "header.json").write_bytes(to_sealed_json(replace(store.header, shape=shape)))
        with pytest.raises(DataError, match="import again"):
            ImageStore.open(store.path)
    (store.path / "header.json").write_text(header)
    whole = (store.path / "images.npy").read_bytes()
    for damage in (b"", whole[:50], whole[:-1]):
        (store.path / "images.npy").write_bytes(damage)
        with pytest.raises(DataError, match="import again"):
            ImageStore.open(store.path)
