"""Sums of differences of weights over a sample of the members, for means at Euler points (see `euler_means`).

The sample is a fixed one, drawn without looking at the data. A sum over a share f of the members, divided by f, has an
expected square error of about (1/f - 1) sum_j |d_j (s_j - m)|^2. That is small where very many members share the
weight. Each row estimates its error from the sample. It also asks whether the sample has half of its part of two sums
over all members, of |p_j (s_j - m)|^2 and of p_j^2 r_j^6, r_j the distance from the mean image: else a heavy member or
a far group may be missing.
"""

import math

import numpy as np
import torch

from postmean.engine.euler_sums import LogRatios, Sums, sums_of
from postmean.engine.population import SCALE, Population

_SHARE, _LEAST = 1 / 8, 1024
"""Share of the members that is a sample, and the fewest members of one."""

_SPREAD = 1 / 8
"""Least ESS of a row that the sample is tried for, as a share of the members."""

_KEY = 0x7361  # any constant


def sums_over_sample(
    population: Population, weight_BM: torch.Tensor, ratios: LogRatios, ess: np.ndarray, step: float, allowed: float
) -> Sums:
    """Sums over the sample, for rows spread over at least as many members; the others are not done.

    Args:
        weight_BM: the weights at z.
        ess: 1 / sum of squared weights, float64 [n].
        step: as for `sums_of`.
        allowed: mean squared error per dimension of x that sampling may cost.
    """
    size, count = len(population), math.ceil(len(population) * _SHARE)
    sums = Sums(torch.zeros_like(ratios.mean), np.zeros(len(ess), bool))
    spread = np.flatnonzero(ess >= _SPREAD * size)
    if population.represented * _SHARE < _LEAST or len(spread) == 0:
        return sums
    sample = np.sort(np.random.Generator(np.random.Philox(key=_KEY)).choice(size, count, replace=False))
    part, factor = ratios.select(spread), size / count  # differences are that many times as large
    of_differences, of_weights = (_Squares(population, part.mean) for _ in range(2))

    def watch(rows: slice, members: slice | torch.Tensor, differences: torch.Tensor, weight: torch.Tensor) -> None:
        of_differences.add(rows, differences, members)
        of_weights.add(rows, weight, members)

    found = sums_of(population, weight_BM, part, step, sample, watch)
    error = (1 - 1 / factor) * step**2 * of_differences.total / (population.dim * SCALE**2)
    of_all = _Squares(population, part.mean)
    rows = torch.from_numpy(part.row)
    for start in range(0, size, population.pixels.tile_rows):  # a copy of all weights would take too much memory
        members = slice(start, start + population.pixels.tile_rows)
        of_all.add(slice(None), weight_BM[:, members].index_select(0, rows), members)
    is_seen = (factor * of_weights.total >= of_all.total / 2) & (factor * of_weights.far >= of_all.far / 2)
    is_good = (error <= allowed) & is_seen
    sums.put(spread, Sums(found.change, found.is_done & is_good.numpy()))
    return sums


class _Squares:
    """sum_j value_j^2 |s_j - m|^2 of n rows, without the mixed term of |(s_j - mean image) - (m - mean image)|^2.

    It is negative for members near m, and never more than the two others together. `far` is the sum of value_j^2 r_j^6,
    r_j the distance from the mean image in units of its root mean square.
    """

    def __init__(self, population: Population, mean: torch.Tensor) -> None:
        self.total = torch.zeros(len(mean), dtype=torch.float64)
        self.far = torch.zeros_like(self.total)
        deviation2 = population.deviation2
        powers = torch.ones_like(deviation2), deviation2, (deviation2 / deviation2.mean()) ** 3
        self._powers = torch.stack(powers, 1)
        self._shift2 = (mean - population.mean_s.to(torch.float32)).square_().sum(1)

    def add(self, rows: slice, value: torch.Tensor, members: slice | torch.Tensor) -> None:
        """Add the values of these rows and members, float32 [rows, members]."""
        of_one, of_deviation2, of_far = (value.square() @ self._powers[members]).unbind(1)
        self.total[rows] += of_one * self._shift2[rows] + of_deviation2
        self.far[rows] += of_far
