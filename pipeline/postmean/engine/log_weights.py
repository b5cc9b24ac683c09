"""Log-weights of the posterior over a whole population, by exact int8 matrix products.

In integer units, log w_j = -|z - x_j|^2 / 2 sigma^2 is (z.s_j - |s_j|^2 / 2) / sigma^2, up to a constant per query.
Pixels are int8. z is split into a high and a low byte, z = c (hi + lo / 254) with c = max|z| / 127: two int8 products,
exact in int32, replace one float32 product at an eighth of its cost. The split omits a vector r from z, with
|r_d| <= c / 508. This shifts log w_j - log w_i by r.(s_j - s_i) / sigma^2; `error` gives the size of the shift.
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

    The difference value_j - value_i within a row has an error of about `error` times |s_j - s_i|, the distance of the
    two members in integer units; the float32 rounding of `value` adds to it.
    """

    value: torch.Tensor
    """float32 [B, M], up to a constant per row"""
    error: torch.Tensor
    """float64 [B], standard deviation of the error of value_j - value_i per unit of |s_j - s_i|"""


def queries_at_a_time(population: Population, workspace_bytes: int = _WORKSPACE_BYTES) -> int:
    """Most queries whose log-weights fit into the workspace: a multiple of 16, at least 16."""
    return max(16, int(workspace_bytes / (4 * population.represented)) // 16 * 16)


def log_weights(population: Population, z_BD: torch.Tensor, sigma_B: np.ndarray) -> LogWeights:
    """Log-weights of every member.

    Takes 4 B M D int8 operations, and 4 B M bytes of memory besides one tile and its product.

    Args:
        z_BD: canonical z, float32 [B, D] in units of x, on the population's device.
        sigma_B: noise levels, float64 [B], on the host.
    """
    z = to_integer_units(z_BD)
    bytes_2BD, high_B, low_B = split_bytes(z)
    sigma2_B = torch.from_numpy((sigma_B * SCALE) ** 2).to(z.device)
    # scales are combined per query, so that a tile needs only three passes over its log-weights
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
    # uniform rounding error of width c / 254 per coordinate; without float32's rounding of product and norm
    error_B = low_B / math.sqrt(12) / sigma2_B
    return LogWeights(value, error_B)


def split_bytes(z_BD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """int8 [hi; lo] [2B, D] and scales, float64 [B], of z = high_B hi + low_B lo + r with |r_d| <= low_B / 2."""
    high_B = z_BD.abs().amax(1).to(torch.float64).clamp(min=1e-30) / 127
    hi = torch.round(z_BD / high_B[:, None].to(torch.float32))
    low_B = high_B / 254
    rest = z_BD - hi * high_B[:, None].to(torch.float32)
    lo = torch.round(rest / low_B[:, None].to(torch.float32)).clamp_(-127, 127)
    return torch.cat([hi, lo]).to(torch.int8), high_B, low_B


def int8_product(left_MD: torch.Tensor, right_ND: torch.Tensor) -> torch.Tensor:
    """left @ right.T of int8 matrices, exact in int32 [M, N].

    On a GPU the int8 product needs more than 16 rows and sizes that are multiples of 8: matrices are padded with zeros.
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
