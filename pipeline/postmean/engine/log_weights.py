"""Log-weights of the posterior over a whole population, by exact int8 matrix products.

log w_j = -|z - x_j|^2 / 2 sigma^2, up to a constant of the query, is (z.s_j - |s_j|^2 / 2) / sigma^2 in integer units.
Pixels are int8. z is split into a high and a low byte, z = c (hi + lo / 254) with c = max|z| / 127, so that two int8
products, exact in int32, replace one in float32 at an eighth of its price. What the split leaves out of z is a vector
r with |r_d| <= c / 508: it moves log w_j - log w_i by r.(s_j - s_i) / sigma^2, and `error` says how much that can be.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from postmean.engine.population import SCALE, Population, to_integer_units

_WORKSPACE_BYTES = 256 << 20


@dataclass(frozen=True)
class LogWeights:
    """Log-weights of B queries over the M members of a population.

    Differences within a row are right up to about `error`, the norm of what rounding left out of z over sigma^2,
    times the distance of the two members in integer units.
    """

    value: torch.Tensor
    """float32 [B, M], up to a constant of each row"""
    error: torch.Tensor
    """float64 [B], standard deviation of the error of value_j - value_i per unit of |s_j - s_i|"""


def queries_at_a_time(population: Population, workspace_bytes: int = _WORKSPACE_BYTES) -> int:
    """Most queries whose log-weights fit into the workspace, a multiple of 16, at least 16."""
    return max(16, int(workspace_bytes / (4 * population.represented)) // 16 * 16)


def log_weights(population: Population, z_BD: torch.Tensor, sigma_B: np.ndarray) -> LogWeights:
    """Log-weights of every member.

    The cost is 4 B M D int8 operations, the workspace 4 B M bytes and one tile.

    Args:
        z_BD: canonical z, float32 [B, D] in units of x, on the population's device.
        sigma_B: noise levels, float64 [B], on the host.
    """
    z = to_integer_units(z_BD)
    bytes_2BD, high_B, low_B = split_bytes(z)
    sigma2_B = torch.from_numpy((sigma_B * SCALE) ** 2).to(z.device)
    # scales folded per query, so that a tile needs three passes over its log-weights
    high = (high_B / sigma2_B).to(torch.float32)[:, None]
    low = (low_B / sigma2_B).to(torch.float32)[:, None]
    half = (-0.5 / sigma2_B).to(torch.float32)[:, None]
    norm2 = population.norm2.to(torch.float32)
    count = len(z)
    value = torch.empty((count, len(population)), dtype=torch.float32, device=z.device)
    for start, stop in population.tiles():
        product = int8_product(bytes_2BD, population.tile(start, stop))
        part = torch.mul(product[:count], high, out=value[:, start:stop])
        part.addcmul_(product[count : 2 * count], low)
        part.addcmul_(norm2[start:stop], half)
    # uniform rounding error of width c / 254 a coordinate, and float32's of the product and the norm
    error_B = low_B / math.sqrt(12) / sigma2_B
    return LogWeights(value, error_B)


def split_bytes(z_BD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """z = high_B hi + low_B lo + r with |r| <= low_B / 2: int8 [hi; lo] of shape [2B, D], and the scales, float64."""
    high_B = z_BD.abs().amax(1).to(torch.float64).clamp(min=1e-30) / 127
    hi = torch.round(z_BD / high_B[:, None].to(torch.float32))
    low_B = high_B / 254
    rest = z_BD - hi * high_B[:, None].to(torch.float32)
    lo = torch.round(rest / low_B[:, None].to(torch.float32)).clamp_(-127, 127)
    return torch.cat([hi, lo]).to(torch.int8), high_B, low_B


def int8_product(left_MD: torch.Tensor, right_ND: torch.Tensor) -> torch.Tensor:
    """left @ right.T of int8 matrices, exact in int32 [M, N].

    A GPU's int8 product wants more than 16 rows and sizes that are multiples of 8: zeros make up for the rest.
    """
    rows, columns = len(left_MD), len(right_ND)
    if left_MD.is_cuda:
        left_MD = _pad(left_MD, 32 if rows <= 16 else -(-rows // 8) * 8)
        right_ND = _pad(right_ND, -(-columns // 8) * 8)
        return torch._int_mm(left_MD, right_ND.t())[:rows, :columns]  # pyright: ignore[reportPrivateImportUsage]
    return torch._int_mm(left_MD, right_ND.t())  # pyright: ignore[reportPrivateImportUsage]


def _pad(matrix: torch.Tensor, rows: int) -> torch.Tensor:
    columns = -(-matrix.shape[1] // 8) * 8
    if matrix.shape == (rows, columns):
        return matrix
    padded = matrix.new_zeros((rows, columns))
    padded[: matrix.shape[0], : matrix.shape[1]] = matrix
    return padded
