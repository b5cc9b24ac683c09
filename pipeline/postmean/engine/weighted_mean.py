"""Means of a whole population under given weights: sum_j p_j x_j, the second matrix product of an exact posterior.

Weights that fall on few members are summed over these alone, in float32. Otherwise the heavy members are, and the bulk
is summed by int8 products of the pixels with weights rounded to one byte, or to two. Rounding is dithered,
floor(p / step + d_j) with d_j spread evenly over [0, 1), so that small weights do not all vanish: each is right on
average, and the error of the sum is at most M step^2 / 4 times the mean square deviation of a pixel, at most 1 and
about 1/4 in images. The mass that rounding gained or lost is given to the mean of the population.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from postmean.engine.log_weights import int8_product
from postmean.engine.masks import count_true, positions
from postmean.engine.population import Population, from_integer_units

_FOLDS = (64.0, 8.0, 1.0)  # thresholds tried, as multiples of the one that left_out guarantees
_ONE_BYTE = 1e-7  # rounding errors below this take two bytes: with one, too many members would be heavy
_MOST_SUMMED = 512  # members summed in float32 before an int8 product over all is cheaper


@dataclass(frozen=True)
class WeightedMeans:
    """Means and, for rows that rest on few members, what they rest on."""

    mean: torch.Tensor
    """float32 [B, D] in [-1, 1]"""
    support: list[tuple[np.ndarray, np.ndarray] | None]
    """For each row its members (int64) and weights (float32) where there are at most `max_support`, else None"""


def weighted_means(
    population: Population, weight_BM: torch.Tensor, max_support: int, left_out: float, rounding: float
) -> WeightedMeans:
    """Means of the population under each row of weights.

    Args:
        weight_BM: non-negative, each row sums to 1, float32 [B, M] on the population's device; used as scratch.
        max_support: most members of a support.
        left_out: mass that the smallest weights left out may hold together; it costs at most left_out^2 times the
            mean square distance of two images, itself at most 4.
        rounding: mean squared error per dimension that rounding the bulk may cost, at a mean square deviation of 1/4.
            Below 1e-7 the weights keep two bytes, for one more product and an error of 1e-12.
    """
    mean = torch.empty((len(weight_BM), population.dim), dtype=torch.float32, device=weight_BM.device)
    support: list[tuple[np.ndarray, np.ndarray] | None] = [None] * len(weight_BM)
    rows, dense = np.arange(len(weight_BM)), []
    for fold in _FOLDS:
        # whoever carries many members above a high threshold carries more above a lower one
        part = weight_BM if len(rows) == len(weight_BM) else weight_BM[rows]
        carried = part > fold * left_out / len(population)
        counts = count_true(carried)
        few = np.flatnonzero(counts <= population.at_hand(max(max_support, _MOST_SUMMED)))
        dense.append(np.delete(rows, few))
        rows, carried, part = rows[few], carried[few], part[few]
        again = []
        bounds, members = _by_row(carried)
        for position, row in enumerate(rows):
            member = members[bounds[position] : bounds[position + 1]]
            weight = part[position, torch.from_numpy(member).to(part.device)]
            total = float(weight.sum())
            if total < 1 - left_out and fold > 1:
                again.append(position)
                continue
            weight = weight / total
            if len(member) <= max_support:
                support[row] = (member, weight.cpu().numpy())
            mean[row] = from_integer_units(_sum_rows(population, member, weight))
        rows = rows[again]
        if len(rows) == 0:
            break
    spread = np.sort(np.concatenate(dense))
    if len(spread):
        bulk = weight_BM if len(spread) == len(weight_BM) else weight_BM[spread]
        mean[spread] = _dense_means(population, bulk, rounding)
    return WeightedMeans(mean, support)


def _by_row(mask: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Where each row's members begin and end, and the members."""
    row, member = positions(mask)
    return np.searchsorted(row, np.arange(len(mask) + 1)), member


def _sum_rows(population: Population, member: np.ndarray, weight: torch.Tensor) -> torch.Tensor:
    """sum_j weight_j s_j over these members, float32 [D]."""
    return weight @ population.rows(member).to(torch.float32)


def _dense_means(population: Population, bulk: torch.Tensor, rounding: float) -> torch.Tensor:
    """Means under weights that are spread over many members; `bulk` is overwritten."""
    size = len(population)
    # step = limit / 127 and M step^2 / 16 = rounding; no more than 1 / limit members are heavier
    precise = rounding < _ONE_BYTE
    limit = 127 * math.sqrt(16 * max(rounding, _ONE_BYTE) / size)
    # the golden ratio's multiples: any run of members has its d_j spread evenly
    dither = torch.arange(size, dtype=torch.float64, device=bulk.device).mul_((math.sqrt(5) - 1) / 2).remainder_(1.0)
    dither = dither.to(torch.float32)
    total = bulk.new_zeros((len(bulk), population.dim))
    mass = bulk.new_zeros(len(bulk), dtype=torch.float64)
    bounds, heavy = _by_row(bulk > limit)
    for row in np.flatnonzero(np.diff(bounds)).tolist():
        member = heavy[bounds[row] : bounds[row + 1]]
        index = torch.from_numpy(member).to(bulk.device)
        weight = bulk[row, index]
        bulk[row, index] = 0.0
        total[row] = _sum_rows(population, member, weight)
        mass[row] = weight.sum(dtype=torch.float64)
    step = bulk.amax(1).clamp(min=1e-30) / 126.99  # with the dither below 128
    inverse = (1 / step)[:, None]
    counted = torch.zeros_like(mass)
    products = torch.zeros_like(total)
    for start, stop in population.tiles():
        pixels = population.tile(start, stop).t()
        if precise:
            scaled = bulk[:, start:stop] * inverse
            high = scaled.floor()
            low = torch.add(dither[start:stop], scaled.sub_(high), alpha=127.0).to(torch.int8)
            counted += low.sum(1, dtype=torch.int32) / 127
            products.add_(int8_product(low, pixels), alpha=1 / 127)
            rounded = high.to(torch.int8)
        else:
            rounded = torch.addcmul(dither[start:stop], bulk[:, start:stop], inverse).to(torch.int8)
        counted += rounded.sum(1, dtype=torch.int32)
        products += int8_product(rounded, pixels)
    total.addcmul_(products, step[:, None])
    mass += counted * step
    mean_s = population.mean_s.to(torch.float32)
    return from_integer_units(total + (1 - mass).to(torch.float32)[:, None] * mean_s)
