"""Means of a whole population under given weights: sum_j p_j x_j, the second matrix product of an exact posterior.

Weights that fall on few members are summed over these alone, in float32. Otherwise the heavy members are, and the bulk
is summed by one int8 product of the pixels with weights rounded to a byte. What rounding leaves out of the weights is
given to the mean of the whole population, so that it costs its own small difference from that mean, not its mass.

The error of rounding the bulk, with step h / (127 M) for heavy members above h / M, is at most M step^2 / 12 times the
mean square deviation of a pixel from the mean image, itself at most 1 (1/4 in natural images): h^2 / (12 127^2 M).
"""

from dataclasses import dataclass

import torch

from pipeline.neighbours.log_weights import int8_product
from pipeline.neighbours.population import SCALE, Population, from_integer_units

LEFT_OUT = 2e-6
"""Posterior mass that the members left out of a support may hold together."""

_HEAVY = 60.0  # h: mean squared error below 0.019 / M, 4e-7 for M = 50 000 in the worst case, a tenth of it in images
_MOST_SUMMED = 512  # members summed in float32 before an int8 product over all is cheaper


@dataclass(frozen=True)
class WeightedMeans:
    """Means and, for rows that rest on few members, what they rest on."""

    mean: torch.Tensor
    """float32 [B, D] in [-1, 1]"""
    support: list[tuple[torch.Tensor, torch.Tensor] | None]
    """For each row its members (int64) and weights (float32) where there are at most `max_support`, else None"""


def weighted_means(population: Population, weight_BM: torch.Tensor, max_support: int) -> WeightedMeans:
    """Means of the population under each row of weights.

    Args:
        weight_BM: non-negative, each row sums to 1, float32 [B, M] on the population's device; used as scratch.
        max_support: most members of a support.
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
        mean[dense] = _dense_means(population, weight_BM if len(dense) == len(counts) else weight_BM[dense])
    return WeightedMeans(mean, support)


def _sum_rows(population: Population, member: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """sum_j weight_j s_j over these members, float32 [D]."""
    return weight @ population.rows(member.cpu().numpy()).to(torch.float32)


def _dense_means(population: Population, bulk: torch.Tensor) -> torch.Tensor:
    """Means under weights that are spread over many members; `bulk` is overwritten."""
    limit = _HEAVY / len(population)
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
    step = bulk.amax(1).clamp(min=1e-30) / 127
    inverse = (1 / step)[:, None]
    counted = torch.zeros_like(mass)
    products = torch.zeros_like(total)
    for start, stop in population.tiles():
        rounded = torch.round(bulk[:, start:stop] * inverse)
        counted += rounded.sum(1)
        products += int8_product(rounded.to(torch.int8), population.tile(start, stop).t())
    total.addcmul_(products, step[:, None])
    mass += counted * step
    mean_s = (population.mean * SCALE - 0.5).to(torch.float32)
    return from_integer_units(total + (1 - mass).to(torch.float32)[:, None] * mean_s)
