"""Means of a whole population under given weights: sum_j p_j x_j, the second matrix product of an exact posterior.

Weights that fall on few members are summed over these alone, in float32. Otherwise the heavy members are, and the bulk
is summed by int8 products of the pixels with weights rounded to one byte, or to two. Rounding is dithered, floor(p / step + d_j)
with d_j spread evenly over [0, 1), so that small weights do not all vanish: each is right on average, and the error of
the sum is at most M step^2 / 4 times the mean square deviation of a pixel, at most 1 and about 1/4 in images. The mass
that rounding gained or lost is given to the mean of the population.
"""

import math
from dataclasses import dataclass

import torch

from pipeline.neighbours.log_weights import int8_product
from pipeline.neighbours.population import SCALE, Population, from_integer_units

LEFT_OUT = 2e-6
"""Posterior mass that the members left out of a support may hold together."""

_BULK_ERROR = 1e-7  # mean squared error per dimension of rounding to one byte, at a mean square deviation of 1/4
_MOST_SUMMED = 512  # members summed in float32 before an int8 product over all is cheaper


@dataclass(frozen=True)
class WeightedMeans:
    """Means and, for rows that rest on few members, what they rest on."""

    mean: torch.Tensor
    """float32 [B, D] in [-1, 1]"""
    support: list[tuple[torch.Tensor, torch.Tensor] | None]
    """For each row its members (int64) and weights (float32) where there are at most `max_support`, else None"""


def weighted_means(population: Population, weight_BM: torch.Tensor, max_support: int, precise: bool) -> WeightedMeans:
    """Means of the population under each row of weights.

    Args:
        weight_BM: non-negative, each row sums to 1, float32 [B, M] on the population's device; used as scratch.
        max_support: most members of a support.
        precise: round the bulk to two bytes: 1e-12 of mean squared error instead of 1e-7, for one more product.
    """
    carried = weight_BM > LEFT_OUT / len(population)
    counts = carried.sum(1).tolist()
    mean = torch.empty((len(weight_BM), population.dim), dtype=torch.float32, device=weight_BM.device)
    support: list[tuple[torch.Tensor, torch.Tensor] | None] = [None] * len(weight_BM)
    dense = []
    for row, count in enumerate(counts):
        if count > max(max_support, _MOST_SUMMED):
            dense.append(row)
            continue
        member = carried[row].nonzero()[:, 0]
        weight = weight_BM[row, member]
        weight = weight / weight.sum()
        if count <= max_support:
            support[row] = (member, weight)
        mean[row] = from_integer_units(_sum_rows(population, member, weight))
    if dense:
        bulk = weight_BM if len(dense) == len(counts) else weight_BM[dense]
        mean[dense] = _dense_means(population, bulk, precise)
    return WeightedMeans(mean, support)


def _sum_rows(population: Population, member: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """sum_j weight_j s_j over these members, float32 [D]."""
    return weight @ population.rows(member.cpu().numpy()).to(torch.float32)


def _dense_means(population: Population, bulk: torch.Tensor, precise: bool) -> torch.Tensor:
    """Means under weights that are spread over many members; `bulk` is overwritten."""
    size = len(population)
    # step = limit / 127 and M step^2 / 16 = _BULK_ERROR; no more than M / limit members are heavier
    limit = 127 * math.sqrt(16 * _BULK_ERROR / size)
    # the golden ratio's multiples: any run of members has its d_j spread evenly
    dither = torch.arange(size, dtype=torch.float64, device=bulk.device).mul_((math.sqrt(5) - 1) / 2).remainder_(1.0)
    dither = dither.to(torch.float32)
    total = bulk.new_zeros((len(bulk), population.dim))
    mass = bulk.new_zeros(len(bulk), dtype=torch.float64)
    heavy_row, heavy_member = (bulk > limit).nonzero(as_tuple=True)
    heavy_weight = bulk[heavy_row, heavy_member]
    bulk[heavy_row, heavy_member] = 0.0
    bounds = torch.searchsorted(heavy_row, torch.arange(len(bulk) + 1, device=bulk.device)).tolist()
    for row in range(len(bulk)):
        part = slice(bounds[row], bounds[row + 1])
        if part.start < part.stop:
            total[row] = _sum_rows(population, heavy_member[part], heavy_weight[part])
            mass[row] = heavy_weight[part].sum(dtype=torch.float64)
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
    mean_s = (population.mean * SCALE - 0.5).to(torch.float32)
    return from_integer_units(total + (1 - mass).to(torch.float32)[:, None] * mean_s)
