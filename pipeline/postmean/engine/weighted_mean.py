"""Means of a whole population under given weights: sum_j p_j x_j, the second matrix product of an exact posterior.

If few members hold the weight, only these are summed, in float32. Otherwise the heavy members are summed in float32,
and the rest (the bulk) by int8 products of the pixels with weights rounded to one byte or two. Rounding is dithered:
floor(p / step + d_j), with d_j spread evenly over [0, 1). So small weights do not all vanish, and each is right on
average. The mean squared error of the sum is at most M step^2 / 4 times the mean square deviation of a pixel, which is
at most 1 and about 1/4 in images. The mass that rounding gains or loses is assigned to the mean of the population.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from postmean.engine.log_weights import int8_product
from postmean.engine.masks import count_true, positions
from postmean.engine.population import Population, from_integer_units

_FOLDS = (64.0, 8.0, 1.0)  # thresholds to try, as multiples of left_out / M, which is sure to leave out little enough
_ONE_BYTE = 1e-7  # smaller rounding errors take two bytes: with one byte, too many members would be heavy
_MOST_SUMMED = 512  # most members summed in float32: above, an int8 product over all members is cheaper


@dataclass(frozen=True)
class WeightedMeans:
    """Means, and for rows with the weight on few members these members (the support)."""

    mean: torch.Tensor
    """float32 [B, D] in [-1, 1]"""
    support: list[tuple[np.ndarray, np.ndarray] | None]
    """Per row: its members (int64) and weights (float32) if there are at most `max_support`, else None"""


def weighted_means(
    population: Population, weight_BM: torch.Tensor, max_support: int, left_out: float, rounding: float
) -> WeightedMeans:
    """Means of the population under each row of weights.

    Args:
        weight_BM: non-negative, each row sums to 1, float32 [B, M] on the population's device; may be overwritten.
        max_support: most members of a support.
        left_out: most mass of the smallest weights that are left out; the mean squared error is at most left_out^2
            times the mean square distance of two images, which is at most 4.
        rounding: mean squared error per dimension that rounding the bulk may cost, at a mean square deviation of 1/4.
            Below 1e-7 the weights keep two bytes, at the cost of one more product; the error is then 1e-12.
    """
    mean = torch.empty((len(weight_BM), population.dim), dtype=torch.float32, device=weight_BM.device)
    support: list[tuple[np.ndarray, np.ndarray] | None] = [None] * len(weight_BM)
    rows, dense = np.arange(len(weight_BM)), []
    for fold in _FOLDS:
        # a row with too many members above a high threshold has even more above a lower one: it goes to `dense`
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
    """Bounds of each row's members, int64 [B + 1], and the members of all rows."""
    row, member = positions(mask)
    return np.searchsorted(row, np.arange(len(mask) + 1)), member


def _sum_rows(population: Population, member: np.ndarray, weight: torch.Tensor) -> torch.Tensor:
    """sum_j weight_j s_j over these members, float32 [D]."""
    return weight @ population.rows(member).to(torch.float32)


def _dense_means(population: Population, bulk: torch.Tensor, rounding: float) -> torch.Tensor:
    """Means under weights spread over many members; overwrites `bulk`."""
    size = len(population)
    # step = limit / 127 and M step^2 / 16 = rounding; at most 1 / limit members are heavier
    precise = rounding < _ONE_BYTE
    limit = 127 * math.sqrt(16 * max(rounding, _ONE_BYTE) / size)
    # multiples of the golden ratio: the d_j of any consecutive members are spread evenly
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
    step = bulk.amax(1).clamp(min=1e-30) / 126.99  # weight plus dither stays below 128
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
