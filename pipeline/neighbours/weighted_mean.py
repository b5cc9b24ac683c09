"""Means of a whole population under given weights: sum_j p_j x_j, the second matrix product of an exact posterior.

Weights that fall on few members are summed over these alone. Otherwise the few heavy members are summed in float32,
and the bulk by int8 products of the pixels with weights split into bytes. What rounding leaves out of the weights is
given to the mean of the whole population, so that it costs its own small difference from the mean, not its mass.
"""

from dataclasses import dataclass

import torch

from pipeline.neighbours.log_weights import int8_product
from pipeline.neighbours.population import Population, from_integer_units

LEFT_OUT = 2e-6
"""Posterior mass that the members left out of a support may hold together."""

_HEAVY = (
    1000.0  # a member of more than this many times the average weight is summed in float32: at most M / 1000 of them
)
_ONE_BYTE = 30.0  # up to this many times the average weight one byte is enough: mean squared error (30 / 127)^2 / 48 M


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
        weight_BM: non-negative, each row sums to 1, float32 [B, M] on the population's device.
        max_support: most members of a support.
    """
    carried = weight_BM > LEFT_OUT / len(population)
    counts = carried.sum(1).tolist()
    mean = torch.empty((len(weight_BM), population.dim), dtype=torch.float32, device=weight_BM.device)
    support: list[tuple[torch.Tensor, torch.Tensor] | None] = [None] * len(weight_BM)
    dense = []
    for row, count in enumerate(counts):
        if count > max_support:
            dense.append(row)
            continue
        member = carried[row].nonzero()[:, 0]
        weight = weight_BM[row, member]
        weight = weight / weight.sum()
        support[row] = (member, weight)
        mean[row] = from_integer_units(_sum_rows(population, member, weight))
    if dense:
        mean[dense] = _dense_means(population, weight_BM[dense])
    return WeightedMeans(mean, support)


def _sum_rows(population: Population, member: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """sum_j weight_j s_j over these members, float32 [D]."""
    return weight @ population.rows(member.cpu().numpy()).to(torch.float32)


def _dense_means(population: Population, weight_BM: torch.Tensor) -> torch.Tensor:
    average = 1 / len(population)
    heavy = weight_BM > _HEAVY * average
    bulk = weight_BM.masked_fill(heavy, 0.0)
    step = bulk.amax(1).clamp(min=1e-30) / 127
    parts = 1 if float(step.max()) * 127 <= _ONE_BYTE * average else 2
    total = weight_BM.new_zeros((len(weight_BM), population.dim))
    mass = weight_BM.new_zeros(len(weight_BM), dtype=torch.float64)
    for start, stop in population.tiles():
        scaled = bulk[:, start:stop] / step[:, None]
        high = torch.round(scaled)
        bytes_ = high if parts == 1 else torch.cat([high, torch.round((scaled - high) * 254).clamp_(-127, 127)])
        product = int8_product(bytes_.to(torch.int8), population.tile(start, stop).t()).to(torch.float32)
        mass += bytes_[: len(high)].sum(1, dtype=torch.float64)
        total += product[: len(high)]
        if parts == 2:
            mass += bytes_[len(high) :].sum(1, dtype=torch.float64) / 254
            total.add_(product[len(high) :], alpha=1 / 254)
    total *= step[:, None]
    mass *= step
    for row in heavy.any(1).nonzero()[:, 0].tolist():
        member = heavy[row].nonzero()[:, 0]
        weight = weight_BM[row, member]
        total[row] += _sum_rows(population, member, weight)
        mass[row] += weight.sum(dtype=torch.float64)
    rest = (weight_BM.sum(1, dtype=torch.float64) - mass).to(torch.float32)
    mean_s = (population.mean * 127.5 - 0.5).to(torch.float32)
    total += rest[:, None] * mean_s
    return from_integer_units(total / weight_BM.sum(1, dtype=torch.float64).to(torch.float32)[:, None])
