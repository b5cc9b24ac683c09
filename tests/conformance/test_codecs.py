"""What every codec must do: return records bit for bit, always write the same bytes, and refuse damaged files."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from postmean.base.errors import ShardError
from postmean.contract.plan import ShardPlan
from postmean.contract.records import Records
from postmean.shards.codec import Layout, ShardCodec
from postmean.shards.codecs import codec
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
from tests.support.shard_examples import LAYOUT, assert_equal, manifest_of, plan_of, records_of

KINDS = {
    "plain": LAYOUT,
    "heun": replace(LAYOUT, has_next=True, has_sigma_next=True),
    "extended": replace(LAYOUT, earlier_segments=(30,)),
    "self-contained": replace(LAYOUT, self_contained=True),
    "self-contained heun without labels": replace(
        LAYOUT, self_contained=True, has_next=True, has_sigma_next=True, labels=False
    ),
}


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    records_per_shard = draw(st.integers(1, 40))
    total_records = draw(st.integers(1, 3 * records_per_shard))
    ends = sorted(draw(st.lists(st.integers(0, total_records), max_size=3)))
    return Layout(
        image_shape=draw(st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))),
        records_per_shard=records_per_shard,
        total_records=total_records,
        earlier_segments=tuple(int(count) for count in np.diff([0, *ends])),
        max_support=draw(st.integers(0, 9)),
        has_next=draw(st.booleans()),
        self_contained=draw(st.booleans()),
        labels=draw(st.booleans()),
        has_sigma_next=draw(st.booleans()),
    )


@pytest.fixture(params=["webdataset", "zarr"])
def each(request: pytest.FixtureRequest) -> ShardCodec:
    return codec(request.param)


@pytest.fixture(params=KINDS.values(), ids=list(KINDS))
def layout(request: pytest.FixtureRequest) -> Layout:
    return request.param


ALL_FILES = ("plain", "heun", "self-contained heun without labels")
"""Layouts that have every file and every column between them: what is damaged is the bytes of a file."""
each_file = pytest.mark.parametrize("layout", [KINDS[name] for name in ALL_FILES], ids=ALL_FILES)


def reader(files: dict[str, bytes]) -> Callable[[str], bytes]:
    """Like Storage.get: ShardError if there is no such file."""

    def read(path: str) -> bytes:
        if path not in files:
            raise ShardError(f"{path}: missing")
        return files[path]

    return read


def decode_or_refuse(each: ShardCodec, row: ShardPlan, layout: Layout, files: dict[str, bytes]) -> Records | None:
    """Records, or None where the codec refuses; any other error is a failure."""
    try:
        return each.decode(row, layout, reader(files))
    except ShardError:
        return None


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(layout=layouts(), seed=st.integers(0, 99), sparse_share=st.sampled_from([0.0, 0.5, 1.0]))
@example(layout=replace(LAYOUT, records_per_shard=600, total_records=1113), seed=0, sparse_share=0.5)
@example(layout=replace(LAYOUT, records_per_shard=256, total_records=257), seed=0, sparse_share=0.5)
@example(layout=replace(LAYOUT, records_per_shard=1000, total_records=1), seed=0, sparse_share=1.0)
def test_every_shard_of_a_run_reads_back_to_the_bit(
    each: ShardCodec, layout: Layout, seed: int, sparse_share: float
) -> None:
    plan = plan_of(layout, seed)
    written = set(each.run_files(layout, {}))
    for shard in range(len(plan)):
        records = records_of(layout, shard, seed, sparse_share)
        files = each.encode(records, plan[shard], layout)
        assert list(files) == each.paths(plan[shard], layout)
        assert written.isdisjoint(files)
        written |= set(files)
        assert_equal(each.decode(plan[shard], layout, reader(files)), records)


def test_bytes_are_the_same_every_time(each: ShardCodec, layout: Layout) -> None:
    row = plan_of(layout)[0]
    assert each.encode(records_of(layout, 0), row, layout) == each.encode(records_of(layout, 0), row, layout)
    assert each.run_files(layout, {}) == each.run_files(layout, {})


@each_file
def test_a_shard_cut_short_anywhere_is_refused(each: ShardCodec, layout: Layout) -> None:
    row = plan_of(layout)[1]
    files = each.encode(records_of(layout, 1), row, layout)
    rng = np.random.default_rng(0)
    for path, data in files.items():
        for cut in sorted({0, 1, len(data) - 1, *rng.integers(0, len(data), 15 // len(files)).tolist()}):
            with pytest.raises(ShardError):
                each.decode(row, layout, reader(files | {path: data[:cut]}))


@each_file
def test_flipped_bits_give_records_or_a_shard_error_but_nothing_else(each: ShardCodec, layout: Layout) -> None:
    row = plan_of(layout)[1]
    files = each.encode(records_of(layout, 1), row, layout)
    rng = np.random.default_rng(0)
    for path, data in files.items():
        # the first bytes are a header in both formats, the last an index in zarr
        header, tail = rng.integers(0, 40, 15 // len(files)), len(data) - rng.integers(1, 20, 15 // len(files))
        for place in [*header, *tail, *rng.integers(0, len(data), 15 // len(files))]:
            damaged = bytearray(data)
            damaged[place] ^= 1 << int(rng.integers(8))
            decode_or_refuse(each, row, layout, files | {path: bytes(damaged)})


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(junk=st.binary(max_size=3000), keep=st.integers(0, 2000))
def test_foreign_bytes_are_refused(each: ShardCodec, junk: bytes, keep: int) -> None:
    row = plan_of(LAYOUT)[0]
    path = each.paths(row, LAYOUT)[0]
    files = each.encode(records_of(LAYOUT, 0), row, LAYOUT)
    if files[path][:keep] + junk != files[path]:
        assert decode_or_refuse(each, row, LAYOUT, files | {path: files[path][:keep] + junk}) is None


@pytest.mark.parametrize(
    "other",
    [
        {"has_next": True},
        {"image_shape": (3, 4, 6)},
        {"image_shape": (1, 4, 5)},
        {"self_contained": True},
        {"max_support": 2},
    ],
)
def test_a_shard_of_other_settings_is_refused(each: ShardCodec, other: dict) -> None:
    row = plan_of(LAYOUT)[0]
    files = each.encode(records_of(LAYOUT, 0), row, LAYOUT)
    with pytest.raises(ShardError):
        each.decode(row, replace(LAYOUT, **other), reader(files))


@pytest.mark.parametrize(
    "row", [ShardPlan(0, 7, 9, 24), ShardPlan(0, 0, 10, 0), ShardPlan(1, 0, 10, 23), ShardPlan(0, 0, 10, 10**15)]
)
def test_records_that_are_not_the_plans_are_refused(each: ShardCodec, row: ShardPlan) -> None:
    right = plan_of(LAYOUT)[0]
    files = each.encode(records_of(LAYOUT, 0), right, LAYOUT)
    with pytest.raises(ShardError):
        each.encode(records_of(LAYOUT, 0), row, LAYOUT)
    moved = dict(zip(each.paths(row, LAYOUT), files.values(), strict=True))
    with pytest.raises(ShardError):
        each.decode(row, LAYOUT, reader(moved))


def test_a_sparse_mean_beyond_max_support_is_refused(each: ShardCodec) -> None:
    with pytest.raises(ShardError, match="pairs"):
        each.encode(records_of(LAYOUT, 0), plan_of(LAYOUT)[0], replace(LAYOUT, max_support=1))


def test_read_shard_gives_what_was_committed_and_refuses_damage(
    each: ShardCodec, layout: Layout, tmp_path: Path
) -> None:
    storage = open_storage(tmp_path)
    writer = RunFolder(storage)
    writer.begin(manifest_of(layout, each.name), plan_of(layout), None)
    records = records_of(layout, 1)
    commit = writer.commit_shard(plan_of(layout)[1], records)
    run = RunFolder(open_storage(str(tmp_path)))
    assert run.layout() == layout
    assert run.committed()[1] == run.committed().sum() == commit.size
    assert run.read_commit(1) == commit
    assert_equal(run.read_shard(1), records)
    rng = np.random.default_rng(0)
    for file in commit.files:
        data = storage.get(file.path)
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1
        for replacement in (data[: rng.integers(len(data))], bytes(damaged), data + b"\0", b""):
            storage.put(file.path, replacement)
            with pytest.raises(ShardError, match="generate"):
                run.read_shard(1)
        storage.delete(file.path)
        with pytest.raises(ShardError, match=r"missing"):
            run.read_shard(1)
        storage.put(file.path, data)
    assert_equal(run.read_shard(1, check_hash=False), records)
