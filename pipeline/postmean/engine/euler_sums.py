"""Sums of differences of weights over all members or some, for means at Euler points (see `euler_means`)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from postmean.engine.dense_means import join_halves
from postmean.engine.population import Population
from postmean.engine.products import int8_product, split
from postmean.engine.ragged import weighted_sums

_MOST_HEAVY = 512  # differences of a mean that are summed in float32: more cost as much as a new softmax
_STEPS = 127  # of a rounded difference: a byte
_EXACT_TILES = 16  # products of tiles of at most 8 192 rows whose sum fits an int32
_DITHER_KEY = 0x6575  # not that of the first mean, so that the errors of both are independent


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
class Block:
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


def blocks(
    population: Population, weight_BM: torch.Tensor, odds: Odds, unit: float, sample: torch.Tensor | None = None
) -> Iterator[Block]:
    """The differences of n rows.

    Args:
        weight_BM: the weights at z. unit: differences are multiplied by it.
        sample: members, int64, rising; None for all.
    """
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
            yield Block(tile, half, members, weight, d.mul_(weight))


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


def sums_of(population: Population, odds: Odds, step: float, blocks: Iterator[Block]) -> Sums:
    """Sums of differences in units of `step`.

    They are rounded to whole units, with dither. What is beyond a byte, of few, is summed on its own.

    Args:
        blocks: of differences in these units; they are overwritten.
    """
    count = len(odds.row)
    random = np.random.Generator(np.random.Philox(key=_DITHER_KEY))
    dither = torch.from_numpy(random.random(len(population), dtype=np.float32))
    number = torch.arange(len(population))
    total = torch.zeros((population.halves * count, population.pixels.columns))
    exact = torch.zeros_like(total, dtype=torch.int32)  # twice as fast to add to
    counted, mass = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
    heavy: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for place, block in enumerate(blocks):
        mass += block.d.sum(1)
        whole = block.d.add_(dither[block.members]).floor_()
        counted += whole.sum(1)
        rounded = whole.clamp(-_STEPS, _STEPS).to(torch.int8)
        part = slice(block.half * count, (block.half + 1) * count)
        exact[part].add_(int8_product(rounded, block.tile.t()))
        row, column = np.divmod(np.flatnonzero(np.abs(rounded.numpy()) == _STEPS), rounded.shape[1])
        rest = whole.numpy()[row, column] - rounded.numpy()[row, column]
        heavy.append((row, number[block.members].numpy()[column], rest))
        if place % _EXACT_TILES == _EXACT_TILES - 1:
            total += exact
            exact.zero_()
    total = join_halves(population, total.add_(exact))
    row, member, rest = (np.concatenate(column) for column in zip(*heavy, strict=True))
    is_done = np.bincount(row, minlength=count) <= _MOST_HEAVY
    order = np.flatnonzero(is_done[row])
    order = order[np.argsort(row[order], kind="stable")]
    bounds = np.searchsorted(row[order], np.arange(count + 1))
    total += weighted_sums(population, bounds, member[order], rest[order])
    counted, mass = ((part * step).to(torch.float32)[:, None] for part in (counted, mass))
    # sum d (s - m) with what rounding gains or loses at the mean image
    centre = population.mean_s.to(torch.float32)
    change = total.mul_(step).sub_(counted * centre).add_((centre - odds.mean) * mass).div_(1 + mass)
    return Sums(change, is_done)
