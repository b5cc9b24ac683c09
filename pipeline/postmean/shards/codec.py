"""The interface of a codec: it turns the records of a shard into the bytes of its files, and back."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

from postmean.base.errors import ConfigError
from postmean.contract.plan import ShardPlan
from postmean.contract.records import Records


class Segment(NamedTuple):
    """Shards of a run that were planned together: all but the last have the same number of records."""

    number: int
    first_shard: int
    shards: int
    records: int


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a codec must know about the run, the same for all its shards.

    Raises:
        ConfigError: a number is no integer or out of range (max_support and record counts may be 0, others must be
            positive), or the earlier segments have more records than the run.
    """

    image_shape: tuple[int, int, int]
    """C, H, W"""
    records_per_shard: int
    total_records: int
    """Records in all shards of the run; 0 if every tuple is certified."""
    max_support: int
    """Most (entry, weight) pairs of a sparse mean."""
    has_next: bool
    """Whether records carry mean_next (solver = heun)."""
    self_contained: bool
    """Whether records carry z and x, and every mean is dense."""
    labels: bool
    """Whether the data set has labels: records then carry label."""
    has_sigma_next: bool = False
    """Whether tuples have the noise level of a teacher point: records then carry sigma_next."""
    earlier_segments: tuple[int, ...] = ()
    """Records of every segment but the last; empty for a run that was never extended."""
    chunk_folders: bool = False
    """Whether the files of Zarr lie in folders of their own, as in runs of schema 4."""

    @property
    def segments(self) -> "list[Segment]":
        """Every segment of the run."""
        counts = [*self.earlier_segments, self.total_records - sum(self.earlier_segments)]
        shards = [-(-count // self.records_per_shard) for count in counts]
        firsts = accumulate([0, *shards])
        return [Segment(*fields) for fields in zip(range(len(counts)), firsts, shards, counts, strict=False)]

    def __post_init__(self) -> None:
        sizes = (*self.image_shape, self.records_per_shard, self.total_records + 1, self.max_support + 1)
        sizes += tuple(count + 1 for count in self.earlier_segments)
        if (
            sum(self.earlier_segments) > self.total_records
            or len(self.image_shape) != 3
            or not all(isinstance(size, int) and size > 0 for size in sizes)
        ):
            raise ConfigError(f"image shape, shard size and record count must be positive integers, got {self}")


class ShardCodec(Protocol):
    """One format. Encoding is deterministic: equal records give equal bytes on every machine."""

    name: str

    def encode(self, records: Records, row: ShardPlan, layout: Layout) -> dict[str, bytes]:
        """Bytes of the shard's files by path relative to the run; ShardError if the records do not fit the row."""
        ...

    def decode(self, row: ShardPlan, layout: Layout, read: Callable[[str], bytes]) -> Records:
        """The records from the bytes that `read` returns for each of `paths`; ShardError if they are damaged.

        Files are not trusted: nothing in them is run as code, and memory is proportional to file and layout.
        """
        ...

    def decode_parts(self, row: ShardPlan, layout: Layout, read: Callable[[str], bytes]) -> list[Records]:
        """The records of `decode` in one or more parts, in order, without copying where the format allows it."""
        ...

    def paths(self, row: ShardPlan, layout: Layout) -> list[str]:
        """Paths of the shard's files, in the order of `encode`."""
        ...

    def run_files(self, layout: Layout, attributes: dict[str, Any]) -> dict[str, bytes]:
        """Files of the run that belong to no shard, such as metadata for other readers of the format.

        Args:
            attributes: what the run is, for formats that have a place for it.
        """
        ...
