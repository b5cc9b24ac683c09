"""Means of a whole population under given weights: sum_j p_j x_j.

If few members hold the weight, only these are summed, in float32. Otherwise all members are (`dense_means`).
"""

from dataclasses import dataclass

import numpy as np
import torch

from postmean.engine.dense_means import dense_means
from postmean.engine.masks import few_above, rows_of
from postmean.engine.population import Population, from_integer_units
from postmean.engine.ragged import weighted_sums

_FOLDS = (64.0, 8.0, 1.0)  # thresholds to try, as multiples of left_out / M, which is sure to leave out little enough
_MOST_SUMMED = 512  # most members summed in float32: above, a product over all members is cheaper


@dataclass(frozen=True)
class WeightedMeans:
    """Means, and for rows with the weight on few members these members (the support)."""

    mean: torch.Tensor
    """float32 [B, D] in [-1, 1]"""
    support: list[tuple[np.ndarray, np.ndarray] | None]
    """Per row: its members (int64) and weights (float32) if there are at most `max_support`, else None"""


def weighted_means(
    population: Population,
    weight_BM: torch.Tensor,
    ess_B: np.ndarray,
    max_support: int,
    left_out: float,
    rounding: float,
) -> WeightedMeans:
    """Means of the population under each row of weights.

    Args:
        weight_BM: non-negative, each row sums to 1, float32 [B, M] on the population's device. It is changed
            meanwhile.
        ess_B: 1 / sum of squared weights, float64 [B].
        max_support: most members of a support.
        left_out: most mass of the smallest weights that are left out; the mean squared error is at most left_out^2
            times the mean square distance of two images, which is at most 4.
        rounding: as for `dense_means`.
    """
    mean = torch.empty((len(weight_BM), population.dim), dtype=torch.float32, device=weight_BM.device)
    support: list[tuple[np.ndarray, np.ndarray] | None] = [None] * len(weight_BM)
    most = population.at_hand(max(max_support, _MOST_SUMMED))
    # by the Cauchy-Schwarz inequality n members hold at most sqrt(n / ess) of the weight
    is_spread = ess_B * (1 - left_out) ** 2 > most
    rows, dense = np.flatnonzero(~is_spread), [np.flatnonzero(is_spread)]
    for fold in _FOLDS:
        if len(rows) == 0:
            break
        # a row with too many members above a high threshold has even more above a lower one: it goes to `dense`
        threshold = fold * left_out / len(population)
        few, bounds, member, weight = few_above(weight_BM, rows, threshold, most)
        dense.append(rows[~few])
        rows = rows[few]
        total = np.add.reduceat(weight, bounds[:-1]) if len(rows) else np.empty(0)
        is_enough = (total >= 1 - left_out) | (fold == 1)
        weight = (weight / np.repeat(total, np.diff(bounds))).astype(np.float32)
        listed = np.repeat(is_enough, np.diff(bounds))
        lists = np.concatenate([[0], np.cumsum(np.diff(bounds)[is_enough])])
        sums = weighted_sums(population, lists, member[listed], weight[listed])
        mean[torch.from_numpy(rows[is_enough]).to(mean.device)] = from_integer_units(sums)
        for position in np.flatnonzero(is_enough):
            part = slice(bounds[position], bounds[position + 1])
            if part.stop - part.start <= max_support:
                support[rows[position]] = (member[part], weight[part])
        rows = rows[~is_enough]
    spread = np.sort(np.concatenate(dense))
    if len(spread):
        means = dense_means(population, rows_of(weight_BM, spread), rounding)
        mean[torch.from_numpy(spread).to(mean.device)] = means
    return WeightedMeans(mean, support)
