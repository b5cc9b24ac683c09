"""The two matrix products of a posterior, z with all pixels and weights with all pixels, in int8 or in float16.

On a CPU, int8: pixels are int8, z is split into a high and a low byte, and both products are exact in int32. On a GPU,
float16: pixels are exact, z is rounded to 11 bits, and sums are float32. Measured on an H200 (docs/gpu.md), one float16
product is faster than two int8 products of the same size.
"""

import math

import torch
import torch.nn.functional as F

from postmean.engine import norm_columns

_LOW_BITS = 11  # of z or a weight below those of its rounding to float16
LOW_UNIT = 2.0**-_LOW_BITS
"""Unit of the low part of z or of a weight in float16."""
WEIGHT_UNIT = 2.0**15
"""Weights are multiplied with it in float16: at most 1, they stay finite, and above 2^-29 they keep all bits."""


class Int8Queries:
    """z as two bytes: z = c (hi + lo / 254) + r with c = max|z| / 127, |r_d| <= c / 508; or the first byte alone.

    The second byte is kept where `error` would exceed `needed` without it.

    Args:
        z: float32 [R, D], in integer units. sigma2: float64 [R], likewise. columns: of a tile.
        needed: error above which a query takes more work, float64 [] or [R] on the device.
    """

    error: torch.Tensor
    """float64 [R], standard deviation of the error of z.(s_j - s_i) / sigma^2, per unit of |s_j - s_i|"""

    def __init__(self, z: torch.Tensor, sigma2: torch.Tensor, columns: int, needed: torch.Tensor) -> None:
        high = z.abs().amax(1).to(torch.float64).clamp(min=1e-30) / 127
        hi = torch.round(z / high[:, None].to(torch.float32))
        # uniform rounding error of width c, or of width c / 254, per coordinate
        self.error = high / math.sqrt(12) / sigma2
        self._imprecise = (self.error > needed).nonzero()[:, 0]
        self.error[self._imprecise] /= 254
        low = high[self._imprecise] / 254
        rest = z[self._imprecise] - hi[self._imprecise] * high[self._imprecise, None].to(torch.float32)
        lo = torch.round(rest / low[:, None].to(torch.float32)).clamp_(-127, 127)
        self._bytes = F.pad(torch.cat([hi, lo]).to(torch.int8), (0, columns - z.shape[1]))
        self._high = (high / sigma2).to(torch.float32)[:, None]
        self._low = (low / sigma2[self._imprecise]).to(torch.float32)[:, None]

    def times(self, tile: torch.Tensor, columns: int) -> torch.Tensor:
        """z.s / sigma^2 for the first `columns` rows s of a tile, float32 [R, columns]."""
        product = int8_product(self._bytes, tile)[:, :columns].to(torch.float32)
        count = len(self._high)
        total, lower = product[:count].mul_(self._high), product[count:]
        if len(lower) == count:
            return total.addcmul_(lower, self._low)
        return total.index_add_(0, self._imprecise, lower.mul_(self._low)) if len(lower) else total


class Float16Queries:
    """z divided by a power of two and rounded to float16, for tiles with norms (`norm_columns`).

    Where `error` would exceed `needed`, the rest of z, rounded to float16 too, takes a second product.

    Args:
        z, sigma2, columns, needed: as for `Int8Queries`.
    """

    error: torch.Tensor
    """As of `Int8Queries`"""
    scale: torch.Tensor
    """float32 [R, 1], what makes log-weights of `times`"""

    def __init__(self, z: torch.Tensor, sigma2: torch.Tensor, columns: int, needed: torch.Tensor) -> None:
        high, low, power = split_float16(z)
        scale = torch.exp2(power.to(torch.float64)) / sigma2
        self.error = low.to(torch.float32).square().mean(1).sqrt().to(torch.float64) * (scale * LOW_UNIT)
        self._imprecise = (self.error > needed).nonzero()[:, 0]
        self.error[self._imprecise] *= LOW_UNIT
        self.scale = scale.to(torch.float32)[:, None]
        count, dim = z.shape
        self._left = high.new_zeros((count + len(self._imprecise), columns))
        self._left[:count, :dim], self._left[count:, :dim] = high, low[self._imprecise]
        self._left[:count, dim : dim + norm_columns.DIGITS] = norm_columns.factors(power)

    def times(self, tile: torch.Tensor) -> torch.Tensor:
        """(z.s - |s|^2 / 2) / (sigma^2 scale) for the rows s of a tile, float32 [R, rows]."""
        product = float16_product(self._left, tile.t())
        count = len(self.scale)
        if len(self._imprecise):
            product[:count].index_add_(0, self._imprecise, product[count:], alpha=LOW_UNIT)
        return product[:count]


def split_float16(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """z = 2^power (high + low * LOW_UNIT) of rows, float32 [R, D]: high and low in float16, power float32 [R].

    The power is that of `norm_columns`, or a larger one where z would be too large for float16. With the former, `high`
    has all 11 bits of values above a quarter of a pixel step.
    """
    power = (torch.floor(torch.log2(z.abs().amax(1).clamp(min=1e-30))) - 14).clamp_(min=norm_columns.LEAST_POWER)
    scaled = torch.ldexp(z, -power[:, None])
    high = scaled.to(torch.float16)
    low = torch.ldexp(scaled - high.to(torch.float32), torch.tensor(_LOW_BITS, device=z.device)).to(torch.float16)
    return high, low, power


def split_weights(weight: torch.Tensor, high: torch.Tensor, low: torch.Tensor | None) -> None:
    """weight = (high + low * LOW_UNIT) / WEIGHT_UNIT, or of high alone: written to these, float16.

    high is off by at most 2^-11 of a weight, or 2^-40; with low, 2^-22 or 2^-51.

    Args:
        weight: float32 in [0, 1].
    """
    torch.mul(weight, WEIGHT_UNIT, out=high)
    if low is not None:
        torch.mul((weight * WEIGHT_UNIT).sub_(high), 1 / LOW_UNIT, out=low)


def int8_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """left @ right.T of int8 matrices, exact in int32 [M, N].

    On a GPU the sizes of `right` must be multiples of 16. Fewer than 32 rows of `left` are padded there.
    """
    rows = len(left)
    if left.is_cuda:
        left = F.pad(left, (0, 0, 0, max(32, -(-rows // 16) * 16) - rows))
    return torch._int_mm(left, right.t())[:rows]  # pyright: ignore[reportPrivateImportUsage]


def float16_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """left @ right of float16 matrices on a GPU, summed in float32: float32 [M, N]."""
    return torch.mm(left, right, torch.float32)  # pyright: ignore[reportCallIssue, reportArgumentType]


def float16_products(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """left[g] @ right[g] of float16 matrices on a GPU, summed in float32: float32 [G, M, N]."""
    return torch.bmm(left, right, torch.float32)  # pyright: ignore[reportCallIssue, reportArgumentType]
