"""The self-join against all distances in int64, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest

from postmean.base.errors import DataError
from postmean.engine import pixels as engine_pixels
from postmean.engine.population import Population
from postmean.neighbours.self_join import SelfJoin, self_join
from tests.support.posterior_examples import DATA_SETS, random_images, store_of

NONE = np.iinfo(np.int32).max


def brute_force(pixels: np.ndarray, flips: bool, labels: np.ndarray | None) -> list[np.ndarray]:
    """For each image, the sorted squared distances, in pixel steps, to all other members of its population."""
    entries = np.concatenate([pixels, pixels[..., ::-1]]) if flips else pixels
    entry_labels = None if labels is None else np.tile(labels, 2 if flips else 1)
    flat = entries.reshape(len(entries), -1).astype(np.int64)
    out = []
    for i in range(len(pixels)):
        others = np.arange(len(entries)) != i
        if entry_labels is not None:
            others &= entry_labels == entry_labels[i]
        out.append(np.sort(np.square(flat[others] - flat[i]).sum(1)))
    return out


@pytest.mark.parametrize("conditional", [False, True], ids=["unconditional", "conditional"])
@pytest.mark.parametrize("flips", [False, True], ids=["no flips", "flips"])
@pytest.mark.parametrize("data", DATA_SETS)
def test_distances_are_those_of_all_pairs_to_the_last_digit(tmp_path, data, flips, conditional):
    pixels = DATA_SETS[data]()
    labels = np.arange(len(pixels)) % 3
    labels[labels == 2] = 0
    labels[-1] = 2  # a class of one image
    store = store_of(tmp_path / "store", pixels, labels)
    expected = brute_force(pixels, flips, labels if conditional else None)
    for nearest in (1, 5, 1000):
        join = self_join(store, flips, conditional, nearest)
        assert join.distance2.dtype == np.int32
        assert join.header.nearest == join.distance2.shape[1] <= nearest
        for row, brute, others in zip(join.distance2, expected, join.others, strict=True):
            assert others == len(brute)
            kept = min(len(brute), len(row))
            assert np.array_equal(row[:kept], brute[:kept])
            assert (row[kept:] == NONE).all()
    assert join.distance2.shape[1] >= max(len(b) for b in expected)


def test_extreme_pixels_of_large_images_do_not_overflow(tmp_path):
    """D = 12 288, black against white: a distance of 8e8 squared pixel steps."""
    pixels = np.zeros((3, 3, 64, 64), np.uint8)
    pixels[1] = 255
    pixels[2, 0] = 255
    join = self_join(store_of(tmp_path / "store", pixels), False, False)
    assert join.distance2.tolist() == [
        [4096 * 255**2, 12288 * 255**2],
        [8192 * 255**2, 12288 * 255**2],
        [4096 * 255**2, 8192 * 255**2],
    ]


@pytest.mark.parametrize("signed_bytes", [0, 1 << 20], ids=["memory map", "signed copy"])
def test_more_images_than_fit_a_tile(tmp_path, monkeypatch, signed_bytes):
    monkeypatch.setattr(engine_pixels, "SIGNED_BYTES", signed_bytes)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3077, 3, 8, 8)).astype(np.uint8)
    store = store_of(tmp_path / "store", pixels)
    assert len(list(Population(store, False).pixels.tiles())) > 1
    join = self_join(store, False, False, 40)
    flat = pixels.reshape(3077, -1).astype(np.int32)
    for i in (0, 700, 3071, 3072, 3073, 3076):
        distances = np.square(flat - flat[i]).sum(1)
        assert np.array_equal(join.distance2[i], np.sort(np.delete(distances, i))[:40])


def test_saved_join_is_read_back_and_another_one_refused(tmp_path):
    labels = np.arange(20) % 2
    store = store_of(tmp_path / "store", random_images(20), labels)
    for flips in (False, True):
        for conditional in (False, True):
            with pytest.raises(DataError, match=r"no self-join.*postmean index"):
                SelfJoin.load(store, flips, conditional)
            join = self_join(store, flips, conditional, 7)
            path = join.save(store)
            read = SelfJoin.load(store, flips, conditional)
            assert read.header == join.header
            assert np.array_equal(read.distance2, join.distance2)
            assert np.array_equal(read.others, join.others)

            whole = path.read_bytes()
            broken = bytearray(whole)
            broken[len(whole) // 2] ^= 255
            for damage in (b"", whole[:5], whole[: len(whole) // 2], whole[:-1], bytes(broken), b"x" * 100):
                path.write_bytes(damage)
                with pytest.raises(DataError, match="postmean index"):
                    SelfJoin.load(store, flips, conditional)
            path.unlink()

    other = store_of(tmp_path / "other", random_images(20, seed=1), labels)
    self_join(other, False, False).save(other)
    for name in ("self-join.npz", "self-join.json"):
        (store.path / "index" / name).write_bytes((other.path / "index" / name).read_bytes())
    with pytest.raises(DataError, match="other images"):
        SelfJoin.load(store, False, False)


def test_conditional_join_needs_labels(tmp_path):
    with pytest.raises(DataError, match="labels"):
        self_join(store_of(tmp_path / "store", random_images(5)), False, True)


def test_a_stored_self_join_is_found_for_as_many_neighbours_and_no_others(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", random_images(40))
    assert SelfJoin.find(store, False, False, 8) is None
    self_join(store, False, False, 8).save(store)
    join = SelfJoin.find(store, False, False, 8)
    assert join is not None and join.header.nearest == 8
    assert SelfJoin.find(store, False, False, 64) is None
    assert SelfJoin.find(store, True, False, 8) is None
    self_join(store, False, False, 64).save(store)  # an image has only 39 others
    assert SelfJoin.find(store, False, False, 64) is not None
    assert SelfJoin.find(store, False, False, 8) is None
