"""Records: the error of packing, and columns that come back unchanged."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postmean.base.errors import ShardError
from postmean.contract.image_store import ImageStore, StoreWriter
from postmean.contract.records import Means, Records, pack_means
from tests.support.shard_examples import concatenate_means, concatenate_records

SHAPE = (3, 5, 6)
PIXELS = np.random.default_rng(0).integers(0, 256, (50, *SHAPE)).astype(np.uint8)
X = np.concatenate([PIXELS, PIXELS[..., ::-1]]).reshape(100, -1) / 127.5 - 1


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> ImageStore:
    with StoreWriter(tmp_path_factory.mktemp("records") / "store", None, {}) as writer:
        writer.append(PIXELS, None)
        return writer.finish()


def random_supports(rng: np.random.Generator, records: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """From one member to all 100, from nearly equal weights to nearly all on one."""
    out = []
    for _ in range(records):
        size = int(rng.integers(1, 101))
        weight = np.exp(rng.uniform(0, 12) * rng.standard_normal(size))
        out.append((rng.permutation(100)[:size], weight / weight.sum()))
    return out


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), max_support=st.integers(0, 100))
def test_packing_and_decoding_costs_less_than_1e_7(store, seed, max_support):
    support = random_supports(np.random.default_rng(seed), 12)
    mean = np.stack([weight @ X[entry] for entry, weight in support])
    given_support = [None if i % 5 == 4 else pair for i, pair in enumerate(support)]
    packed = pack_means(mean.reshape(-1, *SHAPE).astype(np.float32), given_support, max_support)
    decoded = packed.decode(store)
    assert decoded.dtype == np.float32
    assert np.square(decoded.reshape(12, -1) - mean).mean(1).max() < 1e-7
    for row, count in enumerate(packed.count):
        assert count <= max_support
        assert 8 * count < 2 * 90 or count == -1
        if given_support[row] is None:
            assert count == -1
    stops = np.cumsum(np.maximum(packed.count, 0))
    for stop, count in zip(stops, packed.count, strict=True):
        weight = packed.weight[stop - max(count, 0) : stop]
        assert (np.diff(weight) <= 0).all()
        assert count < 1 or weight.sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)


def test_a_mean_is_the_same_to_the_bit_whatever_is_decoded_with_it(tmp_path):
    """One record needs more images than are summed at once, others share the memory."""
    rng = np.random.default_rng(0)
    with StoreWriter(tmp_path / "store", None, {}) as writer:
        writer.append(rng.integers(0, 256, (50, 3, 64, 64)).astype(np.uint8), None)
        store = writer.finish()
    count = np.array([3, 4, -1, 40, 2, 1], np.int32)
    entry = rng.integers(0, 100, 50).astype(np.uint32)
    weight = rng.random(50).astype(np.float32)
    dense = rng.uniform(-1, 1, (1, 3, 64, 64)).astype(np.float16)
    means = Means(count, entry, weight, dense)
    together = means.decode(store)
    for start, stop in ((0, 1), (1, 3), (2, 3), (3, 6), (5, 6)):
        assert np.array_equal(means.slice(start, stop).decode(store), together[start:stop])
    pixels = np.concatenate([store.images, store.images[..., ::-1]])
    x, stops = pixels.astype(np.float64) / 127.5 - 1, np.cumsum(np.maximum(count, 0))
    for row in (0, 1, 3, 4, 5):
        pairs = slice(stops[row] - count[row], stops[row])
        expected = np.tensordot(weight[pairs].astype(np.float64), x[entry[pairs]], 1)
        np.testing.assert_allclose(together[row], expected, atol=1e-5)


def test_means_that_are_not_in_need_of_many_entries_are_sparse(store):
    weight = np.full(20, 1e-7)
    weight[3] = 1
    mean = np.zeros((1, *SHAPE), np.float32)
    packed = pack_means(mean, [(np.arange(20), weight / weight.sum())], 5)
    assert packed.count.tolist() == [1]  # 19 entries of 1e-7 together are below the mass that may be dropped
    assert packed.entry.tolist() == [3]
    assert packed.weight.tolist() == [1.0]
    assert len(packed.dense) == 0


def test_bytes_do_not_depend_on_the_order_of_a_support():
    weight = np.array([0.25, 0.25, 0.5])
    entry = np.array([7, 3, 90])
    mean = np.zeros((1, *SHAPE), np.float32)
    order = np.array([2, 0, 1])
    first, second = (pack_means(mean, [(entry[o], weight[o])], 9) for o in (np.arange(3), order))
    assert first.entry.tolist() == second.entry.tolist() == [90, 3, 7]
    assert first.weight.tobytes() == second.weight.tobytes()


def test_flipped_entries_are_mirrored(store):
    packed = pack_means(np.zeros((1, *SHAPE), np.float32), [(np.array([50 + 4]), np.ones(1))], 1)
    np.testing.assert_allclose(packed.decode(store)[0].ravel(), X[54], atol=1e-6)


def records_of(rng: np.random.Generator, size: int, has_next: bool, plain: bool) -> Records:
    def means() -> Means:
        support = [None if rng.random() < 0.3 else pair for pair in random_supports(rng, size)]
        return pack_means(rng.uniform(-1, 1, (size, *SHAPE)).astype(np.float32), support, 15)

    return Records(
        tuple_id=np.sort(rng.integers(0, 2**40, size)),
        sigma=rng.random(size).astype(np.float32),
        sigma_next=rng.random(size).astype(np.float32) if has_next else None,
        label=rng.integers(0, 9, size) if plain else None,
        mean=means(),
        mean_next=means() if has_next else None,
        **{name: rng.random(size).astype(np.float32) for name in ("ess", "top_weight", "variance", "tail_mass")},
        support_size=rng.integers(0, 99, size).astype(np.int32),
        plain={"z": rng.random((size, *SHAPE))} if plain else {},
    )


def assert_same(a: Records, b: Records) -> None:
    ours, theirs = a.to_arrays(), b.to_arrays()
    assert ours.keys() == theirs.keys()
    for name, column in theirs.items():
        assert ours[name].dtype == column.dtype
        assert ours[name].tobytes() == column.tobytes(), name


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    size=st.integers(0, 9),
    has_next=st.booleans(),
    plain=st.booleans(),
    cuts=st.lists(st.integers(0, 9), max_size=3),
)
def test_slices_joined_again_are_the_records(seed, size, has_next, plain, cuts):
    records = records_of(np.random.default_rng(seed), size, has_next, plain)
    bounds = [0, *sorted(min(c, size) for c in cuts), size]
    parts = [records.slice(a, b) for a, b in pairwise(bounds)]
    assert [len(p) for p in parts] == [b - a for a, b in pairwise(bounds)]
    assert_same(concatenate_records(parts), records)
    assert_same(Records.from_arrays(records.to_arrays(), "shard"), records)
    means = concatenate_means([p.mean for p in parts])
    assert means.entry.tobytes() == records.mean.entry.tobytes()


def test_columns_that_are_missing_or_contradict_each_other_are_refused():
    arrays = records_of(np.random.default_rng(0), 6, True, True).to_arrays()
    for name in arrays:
        if name not in ("sigma_next", "label", "z"):  # not every run has these
            with pytest.raises(ShardError, match="shard 7"):
                Records.from_arrays({key: column for key, column in arrays.items() if key != name}, "shard 7")
        with pytest.raises(ShardError, match="shard 7"):
            Records.from_arrays(arrays | {name: arrays[name][:-1]}, "shard 7")
