"""The plan against a naive loop over tuples, one at a time."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from postmean.base.errors import ShardError
from postmean.contract import plan as plan_module
from postmean.contract.noise import LogNormalNoise
from postmean.contract.plan import Plan, ShardPlan, make_plan, shard_tuples, uncertified
from postmean.contract.process import EDMProcess
from postmean.contract.tuples import TupleSource


def source_of(images: int = 7, flips: bool = False, seed: int = 0) -> TupleSource:
    return TupleSource(seed=seed, images=images, flips=flips, noise=LogNormalNoise(), process=EDMProcess())


def naive(source: TupleSource, tuples: int, certified: np.ndarray | None, size: int) -> list[list[int]]:
    """The record ids of each shard."""
    shards: list[list[int]] = []
    for n in range(tuples):
        block = source.block(n, n + 1)
        image = int(block.entry[0]) % source.images
        if certified is None or block.sigma[0] > certified[image]:
            if not shards or len(shards[-1]) == size:
                shards.append([])
            shards[-1].append(n)
    return shards


@settings(max_examples=60)
@given(
    tuples=st.integers(0, 120),
    size=st.integers(1, 130),
    threads=st.integers(1, 4),
    block=st.integers(1, 50),
    level=st.sampled_from([None, 0.0, 0.1, 0.3, 2.0, np.inf]),
    flips=st.booleans(),
)
@example(tuples=100, size=10, threads=2, block=10, level=None, flips=False)
@example(tuples=101, size=10, threads=2, block=10, level=None, flips=False)
@example(tuples=99, size=33, threads=1, block=33, level=0.0, flips=True)
def test_plan_is_that_of_a_naive_loop(tuples, size, threads, block, level, flips):
    source = source_of(flips=flips)
    certified = None
    if level is not None:
        certified = np.array([level / 2, level, level, level, level * 2, 0, np.inf], np.float32)
    expected = naive(source, tuples, certified, size)
    done: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_module, "_BLOCK", block)
        plan = make_plan(source, tuples, certified, size, threads, done.append)
    assert len(plan) == len(expected)
    assert plan.first_tuple.tolist() == [ids[0] for ids in expected]
    assert plan.last_tuple.tolist() == [ids[-1] for ids in expected]
    assert plan.records.tolist() == [len(ids) for ids in expected]
    assert plan.total_records == sum(map(len, expected))
    assert done == sorted(done)
    assert not tuples or done[-1] == tuples
    for shard, ids in enumerate(expected):
        assert plan.first_record(shard) == sum(map(len, expected[:shard]))
        assert shard_tuples(source, plan[shard], certified).tuple_id.tolist() == ids
    for n in range(0, tuples + 1, 7):
        holding = [shard for shard, ids in enumerate(expected) if any(i >= n for i in ids)]
        assert plan.shard_of(n) == (holding[0] if holding else len(plan))
    again = Plan.from_bytes(plan.to_bytes(), "plan")
    assert again.to_bytes() == plan.to_bytes()
    assert [again[s] for s in range(len(plan))] == [plan[s] for s in range(len(plan))]


def test_certified_at_exactly_its_sigma_is_not_a_record():
    source = source_of()
    block = source.block(0, 50)
    certified = np.zeros(7, np.float32)
    certified[block.entry[3]] = block.sigma[3]
    assert not uncertified(source, block, certified)[3]
    certified[block.entry[3]] = np.nextafter(block.sigma[3], np.float32(0))
    assert uncertified(source, block, certified)[3]
    assert uncertified(source, block, None).all()


def test_plan_of_another_run_and_bytes_that_are_none_are_refused():
    source = source_of()
    plan = make_plan(source, 100, np.full(7, 0.3, np.float32), 10)
    with pytest.raises(ShardError, match="another run"):
        shard_tuples(source, plan[0], None)
    whole = plan.to_bytes()
    for damage in (b"", b"PAR1", whole[:-1], whole[: len(whole) // 2], b"x" * 200):
        with pytest.raises(ShardError, match="plan: "):
            Plan.from_bytes(damage, "plan")
    for first, last, records in (
        ([0, 5], [6, 9], [3, 3]),  # shards overlap
        ([5, 0], [9, 4], [3, 3]),  # out of order
        ([0], [3], [5]),  # more records than tuples
        ([0], [3], [0]),
        ([-1], [3], [2]),
    ):
        wrong = Plan(*(np.array(column) for column in (first, last, records)))
        with pytest.raises(ShardError, match="not in order"):
            Plan.from_bytes(wrong.to_bytes(), "plan")
    assert plan[2] == ShardPlan(2, int(plan.first_tuple[2]), int(plan.last_tuple[2]), 10)


@settings(max_examples=30)
@given(ends=st.lists(st.integers(0, 200), min_size=1, max_size=4, unique=True).map(sorted), size=st.integers(1, 40))
def test_segments_leave_earlier_shards_alone_and_miss_no_record(ends, size):
    source, certified = source_of(), np.full(7, 0.2, np.float32)
    plan = make_plan(source, ends[0], certified, size)
    for start, stop in pairwise(ends):
        longer = plan.followed_by(make_plan(source, stop, certified, size, start=start))
        assert longer.until(start).to_bytes() == plan.to_bytes()
        plan = longer
    assert Plan.from_bytes(plan.to_bytes(), "plan").to_bytes() == plan.to_bytes()
    ids = [shard_tuples(source, plan[shard], certified).tuple_id for shard in range(len(plan))]
    whole = [n for shard in naive(source, ends[-1], certified, size) for n in shard]
    assert [int(n) for part in ids for n in part] == whole
    for stop in ends:
        inside = plan.until(stop)
        assert all(last < stop for last in inside.last_tuple)
