"""Sums over lists of members of different lengths, one list per query, in padded batches.

A batch holds lists of similar length, padded to the longest. So a GPU gets a few large operations instead of several
small ones for every query.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from postmean.engine.population import SCALE, Population

TABLE_BYTES = 1 << 26
"""Of pixels gathered at a time on a CPU."""
_BYTE_TO_S = torch.tensor([1.0, -128.0]).view(torch.uint8)
"""Scale and offset of a row of bytes, as the byte sum wants them behind each row: s = byte - 128"""


class Members(Protocol):
    """Members whose pixels can be read by number: a `Population`, or the classes of `ClassBlocks`."""

    @property
    def dim(self) -> int:
        """D"""
        ...

    @property
    def device(self) -> str:
        """Where their pixels are."""
        ...

    @property
    def rows_at_a_time(self) -> int:
        """Rows of pixels to convert to a wider type at a time."""
        ...

    def rows(self, member: np.ndarray) -> torch.Tensor:
        """Integer pixels of these members, [n, D]."""
        ...


@dataclass(frozen=True)
class Batch:
    """Some of the lists, padded to the longest of them."""

    row: np.ndarray
    """int64 [r], the lists"""
    position: np.ndarray
    """int64 [r, K], positions in the concatenation of all lists; where padded, that of the list's first element"""
    valid: np.ndarray
    """bool [r, K], false where padded"""


def batches(bounds: np.ndarray, population: Members) -> Iterator[Batch]:
    """All lists that are not empty, shortest first.

    Args:
        bounds: int64 [R + 1]; list r is bounds[r] .. bounds[r + 1] - 1 of the concatenation.
        population: its `rows_at_a_time` decides how many lists a batch holds.
    """
    count = np.diff(bounds)
    order = np.argsort(count, kind="stable")
    start = int(np.searchsorted(count[order], 1))
    while start < len(order):
        # the padded size of the lists start .. stop - 1 is (stop - start) count[stop - 1], which rises with stop
        padded = np.arange(1, len(order) - start + 1) * count[order[start:]]
        stop = start + max(1, int(np.searchsorted(padded, population.rows_at_a_time, side="right")))
        row = order[start:stop]
        place = np.arange(int(count[row[-1]]))
        valid = place < count[row][:, None]
        yield Batch(row, bounds[row][:, None] + np.where(valid, place, 0), valid)
        start = stop


def weighted_sums(population: Population, bounds: np.ndarray, member: np.ndarray, weight: np.ndarray) -> torch.Tensor:
    """sum_j weight_j s_j over each list, float32 [R, D] on the device; 0 for an empty list.

    Args:
        bounds: as for `batches`. member: int64 [P]. weight: float [P].
    """
    if population.device == "cpu":
        return _sums_of_bytes(population, bounds, member, weight)
    total = torch.zeros((len(bounds) - 1, population.dim), dtype=torch.float32, device=population.device)
    for batch in batches(bounds, population):
        s, w = _gather(population, batch, member, weight)
        total[_index(batch.row, s)] = torch.bmm(w[:, None], s)[:, 0]
    return total


def _distinct(member: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Like np.unique with `return_inverse`, for numbers below `size`, without a sort."""
    is_there = np.zeros(size, bool)
    is_there[member] = True
    return np.flatnonzero(is_there), (np.cumsum(is_there) - 1)[member]


def _sums_of_bytes(population: Population, bounds: np.ndarray, member: np.ndarray, weight: np.ndarray) -> torch.Tensor:
    """`weighted_sums` on a CPU: pixels are read as bytes, and the rows that several lists share are gathered once."""
    total = torch.empty((len(bounds) - 1, population.dim))
    weight_t = torch.from_numpy(weight.astype(np.float32))
    most = max(1, TABLE_BYTES // population.dim)
    start = 0
    while start < len(total):
        stop = max(start + 1, int(np.searchsorted(bounds, bounds[start] + most, side="right")) - 1)
        part = slice(bounds[start], bounds[stop])
        shared, place = _distinct(member[part], len(population))
        table = torch.empty((len(shared), population.dim + len(_BYTE_TO_S)), dtype=torch.uint8)
        population.copy_bytes(shared, table[:, : population.dim])
        table[:, population.dim :] = _BYTE_TO_S
        total[start:stop] = torch.ops.quantized.embedding_bag_byte_rowwise_offsets(
            table,
            torch.from_numpy(place),
            torch.from_numpy(bounds[start:stop] - bounds[start]),
            per_sample_weights=weight_t[part],
        )
        start = stop
    return total


def moments(
    population: Members, bounds: np.ndarray, member: np.ndarray, weight: np.ndarray
) -> tuple[torch.Tensor, np.ndarray]:
    """Weighted mean of each list in integer units, float32 [R, D], and its variance per dimension of x, float64 [R].

    The variance is a sum of squared differences, so that nothing cancels. Arguments as for `weighted_sums`; the weights
    of a list sum to 1.
    """
    mean = torch.zeros((len(bounds) - 1, population.dim), dtype=torch.float32, device=population.device)
    variance = torch.zeros(len(mean), dtype=torch.float64, device=population.device)
    for batch in batches(bounds, population):
        s, w = _gather(population, batch, member, weight)
        part = torch.bmm(w[:, None], s)
        s -= part
        row = _index(batch.row, s)
        mean[row] = part[:, 0]
        variance[row] = (w * torch.linalg.vector_norm(s, dim=2).square_()).sum(1, dtype=torch.float64)
    return mean, variance.cpu().numpy() / population.dim / SCALE**2


def _gather(
    population: Members, batch: Batch, member: np.ndarray, weight: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels, float32 [r, K, D], and weights, float32 [r, K], 0 where padded."""
    s = population.rows(member[batch.position].ravel()).to(torch.float32).view(*batch.position.shape, population.dim)
    w = np.where(batch.valid, weight[batch.position], 0.0).astype(np.float32)
    return s, torch.from_numpy(w).to(population.device)


def _index(row: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(row).to(like.device)
