"""Verification of shards: each is read, hashed, and compared with the plan."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from postmean.base.errors import ShardError
from postmean.base.in_order import in_order
from postmean.contract.commit import Commit
from postmean.contract.image_store import ImageStore
from postmean.contract.plan import shard_tuples
from postmean.contract.records import Records
from postmean.contract.tuples import TupleBlock
from postmean.runs.check_records import check_neighbours, check_tuple_columns, check_values
from postmean.shards.run_folder import RunFolder

_READERS, _LOCAL_READERS = 8, 2
"""Threads, each with one shard in memory: an object store takes long to answer."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a look at a shard found; nothing where its commit record is not valid: such a shard does not exist."""

    commit: Commit | None = None
    damage: str | None = None
    whole: tuple[TupleBlock, Records] | None = None
    """Tuples and records"""


def look_at(shards: np.ndarray, run: RunFolder, certified: np.ndarray | None, store: ImageStore) -> Iterator[Found]:
    """Read and check these shards, several at a time, in order. A commit record is read once, with its shard."""

    def look(shard: int) -> Found:
        try:
            commit = run.read_commit(shard)
        except ShardError:
            return Found()
        try:
            return Found(commit=commit, whole=_checked(run, commit, certified, store))
        except ShardError as error:
            return Found(commit=commit, damage=str(error))

    readers = _READERS if run.is_remote else _LOCAL_READERS
    with ThreadPoolExecutor(readers) as pool:
        yield from in_order(pool, look, shards.tolist(), readers)


def _checked(
    run: RunFolder, commit: Commit, certified: np.ndarray | None, store: ImageStore
) -> tuple[TupleBlock, Records]:
    """Tuples and records of a shard; ShardError if one of them cannot be the run's."""
    manifest, shard = run.read_manifest(), commit.shard
    records = run.read_shard(shard, commit=commit)
    block = shard_tuples(manifest.tuple_source(), run.read_plan()[shard], manifest.plan_certificate(certified))
    remedy = run.make_again(shard)
    if not np.array_equal(records.tuple_id, block.tuple_id):
        raise ShardError(f"its tuples are not the plan's: {remedy}")
    check_tuple_columns(records, block, store, remedy)
    check_values(records, manifest, remedy)
    check_neighbours(records, block, manifest, store, remedy)
    return block, records
