"""The tuples of a run that are recomputed: chosen while the shards are read, spread evenly over sigma."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from postmean.contract.plan import uncertified
from postmean.contract.records import Records
from postmean.contract.tuples import TupleBlock, TupleSource

_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Sample:
    """Tuples to recompute. They are kept as stored: at most 50 kB a record of 3 x 64 x 64."""

    most: int
    """Records to choose if there are enough, and as many certified tuples."""
    shards: int
    """Shards to choose them from."""
    records: list[tuple[TupleBlock, Records]] = field(default_factory=list[tuple[TupleBlock, Records]])
    """Each of one record"""
    certified: list[TupleBlock] = field(default_factory=list[TupleBlock])
    """Each of one tuple"""

    def take(
        self,
        position: int,
        source: TupleSource,
        block: TupleBlock,
        records: Records,
        certified_sigma: np.ndarray | None,
    ) -> None:
        """Choose from a shard its records at even quantiles of sigma, and its certified tuples of highest sigma.

        Args:
            position: the shard's number among the shards to choose from.
        """
        places = spread_places(self.shards, self.most)
        number = int(np.searchsorted(places, position))
        if number == len(places) or places[number] != position:
            return
        each = -(-self.most // self.shards)
        # the golden ratio sequence: the shifts of consecutive shards fill each other's gaps
        quantiles = (np.arange(each) + (number + 0.5) * _GOLDEN % 1) / each
        order = np.argsort(block.sigma, kind="stable")
        for row in np.unique(order[(quantiles * len(order)).astype(int)]).tolist():
            self.records.append((block.select(np.array([row])), records.slice(row, row + 1)))
        if certified_sigma is not None:
            around = source.block(int(block.tuple_id[0]), int(block.tuple_id[-1]) + 1)
            below = around.select(~uncertified(source, around, certified_sigma))
            for row in np.argsort(-below.sigma, kind="stable")[:each].tolist():
                self.certified.append(below.select(np.array([row])))

    def spread(self) -> tuple[list[tuple[TupleBlock, Records]], list[TupleBlock]]:
        """Records and certified tuples in an order of which every beginning is spread evenly over sigma."""
        at = spread_order([float(block.sigma[0]) for block, _ in self.records])
        certified = spread_order([float(block.sigma[0]) for block in self.certified])
        return [self.records[i] for i in at], [self.certified[i] for i in certified]


def spread_places(count: int, most: int) -> np.ndarray:
    """At most this many of the places 0 .. count - 1, spread evenly, rising, int64."""
    return np.linspace(0, count - 1, min(most, count)).astype(np.int64)


def spread_order(sigma: Sequence[float]) -> list[int]:
    """Positions in an order of which every beginning is spread evenly over the ranks of sigma."""
    rising = np.argsort(sigma, kind="stable")
    return rising[np.argsort((np.arange(len(sigma)) + 1) * _GOLDEN % 1, kind="stable").argsort()].tolist()


def joined(blocks: Sequence[TupleBlock]) -> TupleBlock:
    """One block of the tuples of all; at least one block."""
    sigma_next = [block.sigma_next for block in blocks if block.sigma_next is not None]
    return TupleBlock(
        np.concatenate([block.tuple_id for block in blocks]),
        np.concatenate([block.entry for block in blocks]),
        np.concatenate([block.sigma for block in blocks]),
        np.concatenate(sigma_next) if sigma_next else None,
    )
