"""The certificate's sum over all members at a few noise levels, for each image: sharper than its K nearest alone.

    S_i(sigma) = 1/2 sum_{j != i} D_ij^2 exp(-D_ij^2 / 8 sigma^2)

The table holds upper bounds of it at sigma^2 = D_iK^2 / 8 t for t in `STEPS`; D_iK is the distance of the K-th nearest.
The self-join counts an image's distances in narrow bins; the edges of the bins bound every term. Between two steps the
chord bounds log S, because log S is convex in t: a log-sum-exp of linear functions of t.
"""

import numpy as np
import torch

STEPS = np.arange(6.0, 33.0)
"""t = D_iK^2 / 8 sigma^2, rising: sigma falling"""

_SHIFT = 18  # bins keep 5 bits of the float32 mantissa: neighbouring edges differ by 1.6 to 3.1 %
_FIRST = (0x3F800000 >> _SHIFT) - 1  # the bin before that of 1, the smallest distance but 0: it holds duplicates
_BINS = (0x4F000000 >> _SHIFT) - _FIRST + 1  # up to 2^31


def empty_counts(rows: int, device: torch.device) -> torch.Tensor:
    """Counts of squared distances by bin, int64 [rows, bins]."""
    return torch.zeros((rows, _BINS), dtype=torch.int64, device=device)


def add_counts(counts: torch.Tensor, distance2: torch.Tensor) -> None:
    """Count squared distances, int32 [rows, n], into their bins."""
    bins = distance2.to(torch.float32).view(torch.int32).bitwise_right_shift_(_SHIFT).sub_(_FIRST).clamp_(min=0)
    bins += (torch.arange(len(counts), device=bins.device, dtype=torch.int32) * _BINS)[:, None]
    counts += torch.bincount(bins.flatten(), minlength=counts.numel()).view_as(counts)


def tabulate(counts: torch.Tensor, kth_distance2: torch.Tensor) -> np.ndarray:
    """Upper bounds of log S_i at `STEPS`, float32 [rows, steps], in integer units.

    Args:
        kth_distance2: squared distance of each row's K-th nearest, int32 [rows], at least 1.
    """
    edges = (torch.arange(_BINS + 1, dtype=torch.int32) + _FIRST).bitwise_left_shift(_SHIFT).view(torch.float32)
    edges = edges.to(torch.float64).to(counts.device)
    # binning rounds squared distances to float32: a relative error of 6e-8
    low, high = edges[:-1] * (1 - 1e-7), edges[1:] * (1 + 1e-7)
    # duplicates (first bin) add nothing; the last bin holds the images themselves, counted at 2^31 - 1 by convention
    terms = counts[:, :-1].to(torch.float64) * high[:-1] / 2
    terms[:, 0] = 0.0
    columns = []
    for step in STEPS:
        rate = step / kth_distance2.clamp(min=1).to(torch.float64)
        columns.append((terms * torch.exp(-rate[:, None] * low[:-1])).sum(1).clamp(min=1e-300).log())
    table = torch.stack(columns, 1).cpu().numpy()
    return np.nextafter(table.astype(np.float32), np.float32(np.inf))


def bound(table: np.ndarray, kth_distance2: np.ndarray, sigma2: np.ndarray) -> np.ndarray:
    """Upper bounds of S_i(sigma), float64 [n], in integer units; infinite where the table does not reach.

    Args:
        table: rows of `tabulate`. kth_distance2, sigma2: float64 [n], in integer units.
    """
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 counts as outside
        t = kth_distance2 / (8 * sigma2)
    # a K-th nearest at distance 0 gives no scale for the table
    outside = (t < STEPS[0]) | ~np.isfinite(t) | (kth_distance2 < 1)
    position = np.clip(np.where(outside, STEPS[0], t), STEPS[0], STEPS[-1]) - STEPS[0]
    left = np.minimum(position.astype(int), len(STEPS) - 2)
    share = position - left
    rows = np.arange(len(table))
    # past the last step S only falls: the value there bounds it
    low, high = table[rows, left], table[rows, left + 1]
    outside |= ~np.isfinite(low)
    value = np.where(outside, 0.0, low) * (1 - share) + np.where(outside, 0.0, high) * share
    return np.where(outside, np.inf, np.exp(value))
