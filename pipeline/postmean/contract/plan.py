"""The plan: which tuples are records, and in which shard, fixed before any search.

Shard k holds records [k R, (k + 1) R) of the uncertified tuples in order of their id, so every shard but the last has
exactly R. A run has one segment, and each extension adds another. A segment begins a new shard: every shard but the
last of a segment has exactly R records, and no shard ever changes. The manifest lists the tuples at which earlier
segments end. The plan is a Parquet table with one row per shard.
"""

import hashlib
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from postmean.base.errors import ShardError
from postmean.base.in_order import in_order
from postmean.contract.tuples import TupleBlock, TupleSource

_BLOCK = 1 << 20  # tuples planned at a time: 40 MB of columns
COLUMNS = ("shard", "first_tuple", "last_tuple", "records")


@dataclass(frozen=True)
class ShardPlan:
    """One row of the plan: the shard's records are the uncertified tuples in first_tuple .. last_tuple (inclusive)."""

    shard: int
    first_tuple: int
    last_tuple: int
    records: int


@dataclass(frozen=True)
class Plan:
    """Columns of the plan, int64 [shards] each."""

    first_tuple: np.ndarray
    last_tuple: np.ndarray
    records: np.ndarray

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, shard: int) -> ShardPlan:
        return ShardPlan(shard, int(self.first_tuple[shard]), int(self.last_tuple[shard]), int(self.records[shard]))

    @property
    def total_records(self) -> int:
        return int(self.records.sum())

    def until(self, tuples: int) -> "Plan":
        """The shards of tuples 0 .. tuples - 1; `tuples` must be the end of a segment."""
        shards = int(np.searchsorted(self.last_tuple, tuples))
        return Plan(self.first_tuple[:shards], self.last_tuple[:shards], self.records[:shards])

    def followed_by(self, segment: "Plan") -> "Plan":
        """This plan with another segment appended."""
        return Plan(
            np.concatenate([self.first_tuple, segment.first_tuple]),
            np.concatenate([self.last_tuple, segment.last_tuple]),
            np.concatenate([self.records, segment.records]),
        )

    def first_record(self, shard: int) -> int:
        """Index of the shard's first record among all records of the run."""
        return int(self.records[:shard].sum())

    def shard_of(self, tuple_id: int) -> int:
        """First shard with a record of this tuple or a later one; len(self) if there is none."""
        return int(np.searchsorted(self.last_tuple, tuple_id))

    def shards_of(self, start: int, stop: int) -> range:
        """The shards whose tuple range overlaps start .. stop - 1: they hold all records of these tuples."""
        first = self.shard_of(start)
        last = int(np.searchsorted(self.first_tuple, stop, side="left"))
        return range(first, max(first, last))

    def sha256(self) -> str:
        """Hash of the rows, whatever wrote the file: Parquet's bytes differ between versions of pyarrow."""
        digest = hashlib.sha256()
        for column in (self.first_tuple, self.last_tuple, self.records):
            digest.update(np.ascontiguousarray(column, "<i8").data)
        return digest.hexdigest()

    def to_bytes(self) -> bytes:
        """Parquet file, the same bytes for the same plan."""
        columns = [np.arange(len(self)), self.first_tuple, self.last_tuple, self.records]
        table = pa.table({name: pa.array(c, pa.int64()) for name, c in zip(COLUMNS, columns, strict=True)})
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
        return sink.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> "Plan":
        """The plan from its Parquet file; ShardError for anything else."""
        try:
            # Arrow's own threads would still hold Python's objects when a short command ends, and abort it
            file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
            table = file.read(columns=list(COLUMNS), use_threads=False)
            shard, first, last, records = (table[name].to_numpy().astype(np.int64) for name in COLUMNS)
        except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, OverflowError, MemoryError) as error:
            raise ShardError(f"{where}: not a plan ({error})") from error
        if not np.array_equal(shard, np.arange(len(shard))):
            raise ShardError(f"{where}: shards are not numbered 0..{len(shard) - 1}")
        in_order = (first >= 0) & (first <= last) & (records >= 1) & (records <= last - first + 1)
        if not in_order.all() or (last[:-1] >= first[1:]).any():
            raise ShardError(f"{where}: its tuples are not in order")
        return cls(first, last, records)


def uncertified(source: TupleSource, block: TupleBlock, certified_sigma: np.ndarray | None) -> np.ndarray:
    """Mask of the tuples that need a record: those above their image's certified sigma.

    Args:
        certified_sigma: float32 [N]; None if every tuple is a record.
    """
    if certified_sigma is None:
        return np.ones(len(block), bool)
    return block.sigma > certified_sigma[source.image(block.entry)]


def make_plan(
    source: TupleSource,
    tuples: int,
    certified_sigma: np.ndarray | None,
    records_per_shard: int,
    threads: int = 1,
    progress: Callable[[int], None] = lambda done: None,
    start: int = 0,
) -> Plan:
    """Plan one segment: enumerate the uncertified tuples of start .. tuples - 1.

    Takes about 0.1 us of one thread per tuple, and about 100 MB per thread plus 40 bytes per shard of memory.

    Args:
        progress: called with the end of the tuples planned so far, which counts from 0 and not from `start`.
    """

    def ids(first: int) -> np.ndarray:
        block = source.block(first, min(first + _BLOCK, tuples))
        return block.tuple_id[uncertified(source, block, certified_sigma)]

    first: list[np.ndarray] = []
    last: list[np.ndarray] = []
    seen = newest = 0
    with ThreadPoolExecutor(threads) as pool:
        for number, block_ids in enumerate(in_order(pool, ids, range(start, tuples, _BLOCK), 2 * threads)):
            if len(block_ids):
                # positions in this block of the first record that begins a shard and the first that ends one
                begin = -seen % records_per_shard
                end = (records_per_shard - 1 - seen) % records_per_shard
                first.append(block_ids[begin::records_per_shard].copy())  # a view would keep the whole block
                last.append(block_ids[end::records_per_shard].copy())
                seen += len(block_ids)
                newest = int(block_ids[-1])
            progress(min(start + (number + 1) * _BLOCK, tuples))
    rest = seen % records_per_shard
    if rest:
        last.append(np.array([newest]))
    records = np.full(-(-seen // records_per_shard), records_per_shard, np.int64)
    if rest:
        records[-1] = rest
    return Plan(_joined(first), _joined(last), records)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, np.int64), *parts])


def shard_tuples(source: TupleSource, row: ShardPlan, certified_sigma: np.ndarray | None) -> TupleBlock:
    """The tuples of one shard's records, in order.

    Raises:
        ShardError: their number differs from the plan's, so the plan was made for other settings.
    """
    block = source.block(row.first_tuple, row.last_tuple + 1)
    block = block.select(uncertified(source, block, certified_sigma))
    if len(block) != row.records:
        raise ShardError(
            f"shard {row.shard:06d}: tuples {row.first_tuple}..{row.last_tuple} hold {len(block)} uncertified ones, "
            f"the plan says {row.records}: the plan belongs to another run"
        )
    return block
