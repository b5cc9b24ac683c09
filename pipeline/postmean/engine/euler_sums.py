"""Sums of differences of weights over all members or some, for means at Euler points (see `euler_means`)."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from postmean.engine.dense_means import join_halves, uniform
from postmean.engine.population import Population
from postmean.engine.products import Int8Queries, int8_product
from postmean.engine.ragged import weighted_sums

_MOST_HEAVY = 512  # differences of a mean that are summed in float32: more cost as much as a new softmax
_STEPS = 127  # of a rounded difference: a byte
_EXACT_TILES = 16  # products of tiles of at most 8 192 rows whose sum fits an int32
_CACHED_ROWS = 128  # of a tile's differences, which stay in a processor's cache
_DITHER_KEY = 0x6575  # not that of the first mean, so that the errors of both are independent


@dataclass(frozen=True)
class LogRatios:
    """u_j = scale w.s_j - half |s_j|^2 - offset, for n rows of the weights: p_j exp(u_j) are the later weights."""

    row: np.ndarray
    """int64 [n], of the weights, rising"""
    mean: torch.Tensor
    """m, float32 [n, D] in integer units"""
    w: torch.Tensor
    """float32 [n, D] in integer units"""
    scale: torch.Tensor
    """float64 [n]"""
    half: torch.Tensor
    """float64 [n]"""
    offset: torch.Tensor
    """float64 [n]"""
    needed: torch.Tensor
    """largest accepted error of u_i - u_j per unit of |s_i - s_j|, float64 [n]"""

    def select(self, chosen: np.ndarray) -> "LogRatios":
        """The ratios of these of the n rows."""
        index = torch.from_numpy(chosen)
        columns = (self.mean, self.w, self.scale, self.half, self.offset, self.needed)
        return LogRatios(self.row[chosen], *(column[index] for column in columns))


@dataclass(frozen=True)
class Sums:
    """What the differences d_j of n rows sum to."""

    change: torch.Tensor
    """(sum_j d_j (s_j - m)) / (1 + sum_j d_j), float32 [n, D]"""
    is_done: np.ndarray
    """bool [n]: false where too many differences are large, or where a sample says too little"""

    def put(self, rows: np.ndarray, other: "Sums") -> None:
        """Replace these rows by all of the other's."""
        self.change[torch.from_numpy(rows)] = other.change
        self.is_done[rows] = other.is_done


Watch = Callable[[slice, slice | torch.Tensor, torch.Tensor, torch.Tensor], None]
"""(rows, members, their differences in units of step, their weights, float32 [rows, members])"""


def sums_of(
    population: Population,
    weight_BM: torch.Tensor,
    ratios: LogRatios,
    step: float,
    sample: np.ndarray | None = None,
    watch: Watch | None = None,
) -> Sums:
    """Sums over all members, or over a sample times its share's inverse.

    Differences are rounded to multiples of `step`, with dither. What is beyond a byte, of few, is summed on its own.

    Args:
        weight_BM: the weights at z.
        sample: members, int64, rising; None for all.
        watch: sees all differences, in units of step.
    """
    pixels, count = population.pixels, len(ratios.row)
    halves = population.halves if sample is None else 1  # a sample has mirror images as pixels
    w = torch.cat([ratios.w, population.flip(ratios.w)]) if halves == 2 else ratios.w
    left = Int8Queries(w, 1 / ratios.scale.repeat(halves), pixels.columns, ratios.needed.repeat(halves))
    factor = (1 if sample is None else len(population) / len(sample)) / step
    norm2 = population.norm2.to(torch.float32)
    minus_half, offset = (c.to(torch.float32)[:, None] for c in (-ratios.half, ratios.offset - math.log(factor)))
    dither = uniform(_DITHER_KEY, len(population))
    number = torch.arange(len(population))
    total = torch.zeros((population.halves * count, pixels.columns))
    exact = torch.zeros_like(total, dtype=torch.int32)  # twice as fast to add to
    counted, mass = torch.zeros(count), torch.zeros(count)
    heavy: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for place, (tile, parts) in enumerate(_tiles(population, sample)):
        product = left.times(tile, len(tile))
        for half, members in enumerate(parts):
            block = slice(half * count, (half + 1) * count)
            d = product[block]
            rounded = torch.empty(d.shape, dtype=torch.int8)
            for start in range(0, count, _CACHED_ROWS):
                rows = slice(start, min(start + _CACHED_ROWS, count))
                # (exp(u) - 1) factor is exp(u + ln(factor)) - factor
                part = d[rows].addcmul_(norm2[members], minus_half[rows]).sub_(offset[rows]).exp_().sub_(factor)
                weight = _columns(weight_BM, ratios.row[rows], members)
                part.mul_(weight)
                if watch:
                    watch(rows, members, part, weight)
                mass[rows] += part.sum(1)
                part.add_(dither[members]).floor_()
                counted[rows] += part.sum(1)
                rounded[rows] = part.clamp(-_STEPS, _STEPS)
            exact[block].add_(int8_product(rounded, tile.t()))
            row, column = _ends_of_bytes(rounded)
            rest = d.numpy()[row, column] - rounded.numpy()[row, column]
            heavy.append((row, number[members].numpy()[column], rest))
        if place % _EXACT_TILES == _EXACT_TILES - 1:
            total += exact
            exact.zero_()
    total = join_halves(population, total.add_(exact))
    row, member, rest = (np.concatenate(column) for column in zip(*heavy, strict=True))
    is_done = np.bincount(row, minlength=count) <= population.at_hand(_MOST_HEAVY)
    order = np.flatnonzero(is_done[row])
    order = order[np.argsort(row[order], kind="stable")]
    bounds = np.searchsorted(row[order], np.arange(count + 1))
    total += weighted_sums(population, bounds, member[order], rest[order])
    counted, mass = counted[:, None] * step, mass[:, None] * step
    # sum d (s - m) with what rounding gains or loses at the mean image
    centre = population.mean_s.to(torch.float32)
    change = total.mul_(step).sub_(counted * centre).add_((centre - ratios.mean) * mass).div_(1 + mass)
    return Sums(change, is_done)


def _tiles(
    population: Population, sample: np.ndarray | None
) -> Iterator[tuple[torch.Tensor, list[slice] | list[torch.Tensor]]]:
    """Tiles of pixels, and the members that their rows stand for: with flips two for each row, in a sample one."""
    if sample is None:
        for start, stop, tile in population.pixels.tiles():
            yield tile[: stop - start], population.members_of(start, stop)
    else:
        for members in torch.from_numpy(sample).split(population.pixels.tile_rows):
            yield population.rows(members.numpy()), [members]


def _columns(weight_BM: torch.Tensor, rows: np.ndarray, members: slice | torch.Tensor) -> torch.Tensor:
    """The weights of these members in these rows, rising."""
    first, count = int(rows[0]), len(rows)
    if isinstance(members, slice) and int(rows[-1]) - first == count - 1:
        return weight_BM[first : first + count, members]
    index = torch.from_numpy(rows)
    if isinstance(members, slice):
        return weight_BM[:, members].index_select(0, index)
    return weight_BM[index[:, None], members]


def _ends_of_bytes(rounded: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns, int64 each, of the bytes that are _STEPS in size."""
    rows = np.flatnonzero((torch.maximum(rounded.amax(1), -rounded.amin(1)) == _STEPS).numpy())
    place, column = np.divmod(np.flatnonzero(np.abs(rounded.numpy()[rows]) == _STEPS), rounded.shape[1])
    return rows[place], column
