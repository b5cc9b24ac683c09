"""Sums of differences of weights over the members, for means at Euler points (see `euler_means`).

All members are summed, or a sample of them that is the same for all queries: members drawn without looking at the data.
A sum over a share f of the members, divided by f, has the expected square error (1/f - 1) sum_j |d_j (s_j - m)|^2 at
most. That is small where very many members share the weight. Each row estimates its own error from the sample.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from postmean.engine.dense_means import join_halves
from postmean.engine.population import SCALE, Population
from postmean.engine.products import int8_product, split
from postmean.engine.ragged import weighted_sums

_MOST_HEAVY = 512  # differences of a mean that are summed in float32: more cost as much as a new softmax
_STEPS = 127  # of a rounded difference: a byte
_SHARE, _LEAST = 1 / 8, 1024
"""Share of the members that is a sample, and the fewest members of one."""

_DITHER_KEY, _SAMPLE_KEY = 0x6575, 0x7361  # not those of the first mean, so that the errors of both are independent


@dataclass(frozen=True)
class Odds:
    """u_j = scale w.s_j - half |s_j|^2 - offset, for n rows of the weights: p_j exp(u_j) are the later weights."""

    row: np.ndarray
    """int64 [n]"""
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
    allowed: torch.Tensor
    """largest error of u_i - u_j per unit of |s_i - s_j|, float64 [n]"""

    def select(self, chosen: np.ndarray) -> "Odds":
        """The odds of these of the n rows."""
        index = torch.from_numpy(chosen)
        columns = (self.mean, self.w, self.scale, self.half, self.offset, self.allowed)
        return Odds(self.row[chosen], *(column[index] for column in columns))


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


@dataclass(frozen=True)
class _Block:
    """Differences for the members of a tile, or for their mirror images."""

    tile: torch.Tensor
    """int8 [t, D]"""
    half: int
    """1 for mirror images"""
    members: slice | torch.Tensor
    weight: torch.Tensor
    """p_j, float32 [n, t]"""
    d: torch.Tensor
    """d_j in the wanted unit, float32 [n, t]"""


def sums_over_all(population: Population, weight_BM: torch.Tensor, odds: Odds, step: float) -> Sums:
    """Sums over all members.

    Args:
        step: differences are rounded to multiples of it, with dither; those of _STEPS of them or more are exact.
    """
    return _sums(population, odds, step, _blocks(population, weight_BM, odds, 1 / step))


def sums_over_sample(
    population: Population, weight_BM: torch.Tensor, odds: Odds, ess: np.ndarray, step: float, allowed: float
) -> Sums:
    """Sums over the sample, for rows spread over at least as many members; the others are not done.

    Args:
        ess: 1 / sum of squared weights, float64 [n].
        allowed: mean squared error per dimension of x that sampling may cost.
    """
    size, count = len(population), math.ceil(len(population) * _SHARE)
    sums = Sums(torch.zeros_like(odds.mean), np.zeros(len(ess), bool))
    spread = np.flatnonzero(ess >= count)
    if count < _LEAST or len(spread) == 0:
        return sums
    sample = np.random.Generator(np.random.Philox(key=_SAMPLE_KEY)).choice(size, count, replace=False)
    part, factor = odds.select(spread), size / count
    # |s_j - m| is at most |s_j - mean image| + shift
    deviation = population.deviation2.sqrt()
    shift = torch.linalg.vector_norm(part.mean - population.mean_s.to(torch.float32), dim=1)
    of_d, of_weight = torch.zeros(len(spread), dtype=torch.float64), torch.zeros(len(spread), dtype=torch.float64)

    def sum_of_squares(matrix: torch.Tensor, members: slice | torch.Tensor) -> torch.Tensor:
        one, two, three = (
            matrix.square()
            @ torch.stack([torch.ones_like(deviation[members]), deviation[members], deviation[members].square()], 1)
        ).unbind(1)
        return one * shift.square() + 2 * two * shift + three

    def watched() -> Iterator[_Block]:
        for block in _blocks(population, weight_BM, part, factor / step, torch.from_numpy(np.sort(sample))):
            of_d.add_(sum_of_squares(block.d, block.members))
            of_weight.add_(sum_of_squares(block.weight, block.members))
            yield block

    of_sample = _sums(population, part, step, watched())
    error = (1 - 1 / factor) * step**2 * of_d / (population.dim * SCALE**2)
    # what matters may be missing in the sample
    of_all = sum_of_squares(weight_BM[torch.from_numpy(part.row)], slice(None))
    is_seen = factor * of_weight >= of_all / 2
    sums.put(spread, Sums(of_sample.change, of_sample.is_done & (is_seen & (error <= allowed)).numpy()))
    return sums


def _blocks(
    population: Population, weight_BM: torch.Tensor, odds: Odds, unit: float, sample: torch.Tensor | None = None
) -> Iterator[_Block]:
    """unit d_j of all members, or of a sample."""
    halves = population.halves if sample is None else 1  # a sample has mirror images as pixels
    w = torch.cat([odds.w, population.flip(odds.w)]) if halves == 2 else odds.w
    pixels, count = population.pixels, len(odds.row)
    left = split(w, 1 / odds.scale.repeat(halves), pixels.columns, pixels.dtype, odds.allowed.repeat(halves))
    norm2 = population.norm2.to(torch.float32)
    minus_half, offset = (c.to(torch.float32)[:, None] for c in (-odds.half, odds.offset - math.log(unit)))
    rows = torch.from_numpy(odds.row)
    for tile, parts in _tiles(population, sample):
        product = left.times(tile, len(tile))
        for half, members in enumerate(parts):
            # unit (exp(u) - 1) is exp(u + ln(unit)) - unit
            d = product[half * count : (half + 1) * count]
            d.addcmul_(norm2[members], minus_half).sub_(offset).exp_().sub_(unit)
            if isinstance(members, slice):
                weight = weight_BM[:, members]
                weight = weight if count == len(weight) else weight.index_select(0, rows)
            else:
                weight = weight_BM[rows[:, None], members]
            yield _Block(tile, half, members, weight, d.mul_(weight))


def _tiles(
    population: Population, sample: torch.Tensor | None
) -> Iterator[tuple[torch.Tensor, list[slice] | list[torch.Tensor]]]:
    """Tiles of pixels, and the members that their rows stand for: with flips two for each row, in a sample one."""
    if sample is None:
        for start, stop, tile in population.pixels.tiles():
            yield tile[: stop - start], population.members_of(start, stop)
    else:
        for members in sample.split(population.pixels.tile_rows):
            yield population.rows(members.numpy()), [members]


def _sums(population: Population, odds: Odds, step: float, blocks: Iterator[_Block]) -> Sums:
    """Sums over blocks of differences in units of `step`, rounded to whole units with dither."""
    count = len(odds.row)
    random = np.random.Generator(np.random.Philox(key=_DITHER_KEY))
    dither = torch.from_numpy(random.random(len(population), dtype=np.float32))
    number = torch.arange(len(population))
    total = torch.zeros((population.halves * count, population.pixels.columns))
    counted, mass = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
    heavy: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for block in blocks:
        d = block.d
        mass += d.sum(1)
        rounded = torch.clamp(d, -_STEPS, _STEPS).add_(dither[block.members]).floor_()
        counted += rounded.sum(1)
        rounded = rounded.to(torch.int8)
        total[block.half * count : (block.half + 1) * count].add_(int8_product(rounded, block.tile.t()))
        row, column = np.divmod(np.flatnonzero(np.abs(rounded.numpy()) == _STEPS), d.shape[1])
        rest = d.numpy()[row, column] - rounded.numpy()[row, column]
        heavy.append((row, number[block.members].numpy()[column], rest))
    total = join_halves(population, total)
    row, member, rest = (np.concatenate(column) for column in zip(*heavy, strict=True))
    is_done = np.bincount(row, minlength=count) <= _MOST_HEAVY
    order = np.flatnonzero(is_done[row])
    order = order[np.argsort(row[order], kind="stable")]
    bounds = np.searchsorted(row[order], np.arange(count + 1))
    total += weighted_sums(population, bounds, member[order], rest[order])
    counted += torch.from_numpy(np.bincount(row[order], rest[order], minlength=count))
    counted, mass = ((part * step).to(torch.float32)[:, None] for part in (counted, mass))
    # sum d (s - m) with what rounding gains or loses at the mean image
    centre = population.mean_s.to(torch.float32)
    change = total.mul_(step).sub_(counted * centre).add_((centre - odds.mean) * mass).div_(1 + mass)
    return Sums(change, is_done)
