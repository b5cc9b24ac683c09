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
_DUPLICATE = 0.99
BINS = (0x4F000000 >> _SHIFT) - _FIRST + 1
"""Up to a squared distance of 2^31"""


def bins_of(distance2: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
    """Bin of each squared distance, int32 like it, and the first and last bin that occur."""
    # what is below 1 is 0, of a duplicate, and falls into the first bin
    bins = (
        distance2.to(torch.float32).clamp_(min=_DUPLICATE).view(torch.int32).bitwise_right_shift_(_SHIFT).sub_(_FIRST)
    )
    low, high = torch.aminmax(bins)
    return bins, (int(low), int(high))


def count(bins: torch.Tensor, span: tuple[int, int], axis: int) -> torch.Tensor:
    """How often each bin of `span` occurs in each row (axis 0) or column (axis 1), int32 [rows or columns, bins]."""
    groups, width = bins.shape[axis], span[1] - span[0] + 1
    first = torch.arange(groups, device=bins.device, dtype=torch.int32) * width - span[0]
    place = bins + (first[:, None] if axis == 0 else first)
    return torch.bincount(place.flatten(), minlength=groups * width).to(torch.int32).view(groups, width)


def tabulate(counts: np.ndarray, kth_distance2: np.ndarray) -> np.ndarray:
    """Upper bounds of log S_i at `STEPS`, float32 [rows, steps], in integer units.

    Args:
        counts: of each row's squared distances by bin, integers [rows, BINS].
        kth_distance2: squared distance of each row's K-th nearest, int32 [rows].
    """
    edges = ((np.arange(BINS + 1, dtype=np.int32) + _FIRST) << _SHIFT).view(np.float32).astype(np.float64)
    # duplicates (first bin) add nothing; the last bin holds the images themselves, counted at 2^31 - 1 by convention
    used = 1 + np.flatnonzero(counts[:, 1:-1].any(0))
    # binning rounds squared distances to float32: a relative error of 6e-8
    low, high = edges[used] * (1 - 1e-7), edges[used + 1] * (1 + 1e-7)
    # bins along the first axis: numpy adds them one after another, so bins that are left out change no sum
    terms = np.ascontiguousarray(counts[:, used].T) * (high / 2)[:, None]
    rate = 1 / np.maximum(kth_distance2, 1).astype(np.float64)
    sums = np.stack([(terms * np.exp(np.outer(low, -step * rate))).sum(0) for step in STEPS], 1)
    table = np.log(np.maximum(sums, 1e-300))
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
