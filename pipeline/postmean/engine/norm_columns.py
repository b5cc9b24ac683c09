"""Columns beside the pixels of each image on a GPU: |s|^2 in digits, and a one.

With the digits, one product gives z.s - |s|^2 / 2 and not z.s alone. With the one, a weighted sum of rows has the sum
of the weights beside that of the pixels. Each saves a GPU passes over B M log-weights or weights.

|s|^2 is an integer. Its digits to base 128 are exact in int8 and in float16, and so are their factors, powers of two.
"""

import torch

_BITS = 7  # of a digit
DIGITS = 5
"""Of |s|^2, which is at most D 128^2: enough up to D = 2^21."""
EXTRA_COLUMNS = DIGITS + 1
LEAST_POWER = _BITS * (DIGITS - 1) - 1 - 15
"""Smallest `power` of `factors` whose largest factor is a float16: 2^15."""


def fill(stored: torch.Tensor, signed: torch.Tensor) -> None:
    """Write the columns of rows.

    Args:
        stored: int8 or float16 [n, at least D + EXTRA_COLUMNS]. signed: their pixels s, int8 [n, D].
    """
    dim = signed.shape[1]
    rest = signed.to(torch.int32).square_().sum(1, dtype=torch.int64)
    for column in range(dim, dim + DIGITS):
        stored[:, column] = rest & (1 << _BITS) - 1
        rest = rest >> _BITS
    stored[:, dim + DIGITS] = 1


def factors(power: torch.Tensor) -> torch.Tensor:
    """What a row of digits is multiplied with to give -|s|^2 / 2^(power + 1), float16 [R, DIGITS].

    Above a power of 23 the smallest vanish: with z that large, they do not matter.

    Args:
        power: float32 [R], at least LEAST_POWER.
    """
    exponent = _BITS * torch.arange(DIGITS, dtype=torch.float32, device=power.device) - 1
    return -torch.exp2(exponent - power[:, None]).to(torch.float16)


def norm2(stored: torch.Tensor, dim: int) -> torch.Tensor:
    """|s|^2 of rows whose columns are filled, exact, float64 [n]."""
    total = torch.zeros(len(stored), dtype=torch.float64, device=stored.device)
    for digit in range(DIGITS):
        total += stored[:, dim + digit].to(torch.float64) * 2.0 ** (_BITS * digit)
    return total


def mass(total: torch.Tensor, dim: int) -> torch.Tensor:
    """The sum of the weights, float32 [R], of weighted sums of rows, [R, columns]."""
    return total[:, dim + DIGITS]
