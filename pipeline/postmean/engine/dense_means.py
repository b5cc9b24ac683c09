"""Means under weights that are spread over many members: the second matrix product of an exact posterior.

On a CPU, weights are rounded to one byte or two, with dither: floor(p / step + d_j), d_j uniform in [0, 1). So small
weights do not all vanish, and each is right on average. The d_j are random numbers with a fixed key, independent of the
data, so that no order of the images makes their errors add up. The mean squared error of the sum, expected over the
d_j, is at most M step^2 / 4 times the mean square deviation of a pixel, which is at most 1 and about 1/4 in images. The
mass that rounding gains or loses is assigned to the mean of the population. Proof: docs/certificate.md.

On a GPU, weights are rounded to float16 and divided by their rounded sum. Each is off by at most 2^-11 of itself, so
the mean squared error is at most 2^-22 = 2.4e-7 times the posterior variance. Where less is asked for, the rest of each
weight takes a second product.
"""

import math

import numpy as np
import torch

from postmean.engine import norm_columns
from postmean.engine.masks import few_above, rows_of
from postmean.engine.population import Population, from_integer_units
from postmean.engine.products import LOW_UNIT, float16_product, int8_product, split_weights
from postmean.engine.ragged import weighted_sums

ONE_BYTE = 1e-7
"""Smaller rounding errors take two bytes: with one byte, too many members would be heavy."""

_DITHER_KEY = 0x706D  # any constant


def dense_means(population: Population, weight_BM: torch.Tensor, rounding: float) -> torch.Tensor:
    """sum_j weight_j x_j for each row, float32 [B, D] in units of x.

    Args:
        weight_BM: non-negative, each row sums to 1, float32 on the population's device. It is changed meanwhile.
        rounding: mean squared error per dimension that rounding may cost, at a mean square deviation of 1/4. Below 1e-7
            the weights keep two bytes, or two float16, at the cost of one more product; the error is then 1e-12.
    """
    if population.pixels.dtype == torch.float16:
        return from_integer_units(_float16_means(population, weight_BM, rounding))
    return from_integer_units(_int8_means(population, weight_BM, rounding))


def _float16_means(population: Population, weight_BM: torch.Tensor, rounding: float) -> torch.Tensor:
    pixels, count = population.pixels, len(weight_BM)
    rows = population.halves * count  # of high parts; low ones are below them
    left = weight_BM.new_zeros((2 * rows if rounding < ONE_BYTE else rows, pixels.tile_rows), dtype=torch.float16)
    high, low = left[:rows], left[rows:]
    total = weight_BM.new_zeros((len(left), pixels.columns))
    for start, stop, tile in pixels.tiles():
        left[:, stop - start : len(tile)] = 0  # a padded tile's last rows
        for half, members in enumerate(population.members_of(start, stop)):
            part = slice(half * count, (half + 1) * count), slice(stop - start)
            split_weights(weight_BM[:, members], high[part], low[part] if len(low) else None)
        total += float16_product(left[:, : len(tile)], tile)
    if len(low):
        total = total[:rows].add_(total[rows:], alpha=LOW_UNIT)
    mass = norm_columns.mass(total, population.dim).view(population.halves, count).sum(0)
    return join_halves(population, total) / mass[:, None]


def _int8_means(population: Population, weight_BM: torch.Tensor, rounding: float) -> torch.Tensor:
    pixels, count, size = population.pixels, len(weight_BM), len(population)
    precise = rounding < ONE_BYTE
    limit = 127 * largest_step(max(rounding, ONE_BYTE), size)  # at most 1 / limit members are heavier
    dither = uniform(_DITHER_KEY, size)
    largest = weight_BM.amax(1)
    uneven = np.flatnonzero((largest > limit).numpy())
    uneven_t = torch.from_numpy(uneven)
    _, bounds, heavy, weight = few_above(weight_BM, uneven, limit, size)
    heavy_sum = weighted_sums(population, bounds, heavy, weight)
    row = np.repeat(uneven, np.diff(bounds))
    weight_BM[torch.from_numpy(row), torch.from_numpy(heavy)] = 0.0
    mass = torch.from_numpy(np.bincount(row, weight, minlength=count).astype(np.float64))
    largest[uneven_t] = rows_of(weight_BM, uneven).amax(1)
    step = largest.clamp(min=1e-30) / 126.99  # weight plus dither stays below 128
    inverse = (1 / step)[:, None]
    counted = torch.zeros_like(mass)
    products = torch.zeros((population.halves * count, pixels.columns))
    for start, stop, tile in pixels.tiles():
        for half, members in enumerate(population.members_of(start, stop)):
            total = products[half * count : (half + 1) * count]
            if precise:
                scaled = weight_BM[:, members] * inverse
                high = scaled.floor()
                low = torch.add(dither[members], scaled.sub_(high), alpha=127.0).to(torch.int8)
                counted += low.sum(1, dtype=torch.int32) / 127
                total.add_(int8_product(low, tile.t()), alpha=1 / 127)
                rounded = high.to(torch.int8)
            else:
                rounded = torch.addcmul(dither[members], weight_BM[:, members], inverse).to(torch.int8)
            counted += rounded.sum(1, dtype=torch.int32)
            total += int8_product(rounded, tile.t())
    weight_BM[torch.from_numpy(row), torch.from_numpy(heavy)] = torch.from_numpy(weight)
    bulk = join_halves(population, products) * step[:, None]
    mass += counted * step
    bulk[uneven_t] += heavy_sum
    return bulk.addcmul_((1 - mass).to(torch.float32)[:, None], population.mean_s.to(torch.float32))


def largest_step(rounding: float, size: int) -> float:
    """Largest step of dithered rounding of `size` weights at this cost, as for `dense_means`: M step^2 / 16."""
    return math.sqrt(16 * rounding / size)


def uniform(key: int, size: int) -> torch.Tensor:
    """The random numbers of this key, uniform in [0, 1), float32 [size]: dither."""
    return torch.from_numpy(np.random.Generator(np.random.Philox(key=key)).random(size, dtype=np.float32))


def join_halves(population: Population, total: torch.Tensor) -> torch.Tensor:
    """Sums over images and over mirror images, one below the other, [halves * B, columns], to one sum [B, D]."""
    total = total[:, : population.dim]
    if not population.flips:
        return total
    plain, mirrored = total.chunk(2)
    return plain + population.flip(mirrored)
