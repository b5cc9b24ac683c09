"""The certificate: for each image, the largest sigma up to which the image itself is its posterior mean.

For z = x_i + sigma eps, with D_ij = |x_i - x_j|,

    E_eps |mean - x_i|^2  <=  1/2 sum_{j != i} D_ij^2 min(1, sqrt(2 pi) sigma / D_ij) exp(-D_ij^2 / 8 sigma^2).

Proof (docs/certificate.md): |sum_j p_j (x_j - x_i)|^2 <= sum_j p_j D_ij^2 by convexity; p_j <= r_j / (1 + r_j) with r_j
the odds of j against i, a log-normal; the expectation of this is at most the other two factors. The bound rises with
sigma, so `certified_sigma` is where it meets the tolerance.
"""

import numpy as np

from postmean.engine.population import SCALE
from postmean.neighbours import distance_table
from postmean.neighbours.self_join import SelfJoin

_SIGMA_MIN, _SIGMA_MAX = 1e-4, 1e3  # range of the bisection; no sigma outside it is ever needed
_BISECTIONS = 40  # halves ln(1e7) down to 1.5e-11
_ROWS = 8192


def bound(distance2: np.ndarray, others: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """The bound on E_eps |mean - x_i|^2, float64 [n].

    Args:
        distance2: K nearest squared distances in units of x, rising, infinite beyond the last member; float64 [n, K].
        others: number of other members, int64 [n]; those beyond the K nearest are bounded by the K-th.
        sigma: noise levels, float64 [n].
    """
    eight = 8 * sigma**2
    with np.errstate(invalid="ignore", over="ignore", under="ignore", divide="ignore"):
        terms = distance2 * _shared(distance2, sigma[:, None]) * np.exp(-distance2 / eight[:, None])
    near = np.where(np.isfinite(distance2), terms, 0.0).sum(1)
    beyond = np.maximum(others - np.isfinite(distance2).sum(1), 0)
    # a term rises up to d^2 = 8 sigma^2 at most: before that the K-th distance does not bound the others
    kth = np.where(np.isfinite(distance2[:, -1]), distance2[:, -1], 0.0)
    worst = np.maximum(kth, eight)
    shared = np.where(kth >= eight, _shared(worst, sigma), 1.0)
    return 0.5 * (near + beyond * worst * shared * np.exp(-worst / eight))


def _shared(distance2: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """min(1, sqrt(2 pi) sigma / D): that only draws of eps near the middle between two images matter."""
    with np.errstate(divide="ignore"):
        return np.minimum(1.0, np.sqrt(2 * np.pi) * sigma / np.sqrt(distance2))


def _sharpest(join: SelfJoin, rows: slice, distance2: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """The smaller of two bounds: `bound`, from the K nearest, and the tabulated sum over all members."""
    kth = np.where(np.isfinite(distance2[:, -1]), distance2[:, -1] * SCALE**2, np.nan)
    tabulated = distance_table.bound(join.table[rows], kth, (sigma * SCALE) ** 2) / SCALE**2
    # the table has no factor of its own: that of the nearest member but duplicates is the largest
    nearest = np.where(distance2 > 0, distance2, np.inf).min(1)
    tabulated *= np.where(np.isfinite(nearest), _shared(nearest, sigma), 1.0)
    return np.minimum(bound(distance2, join.others[rows], sigma), tabulated)


def bounds(join: SelfJoin, sigma: float) -> np.ndarray:
    """Bound on E_eps |mean - x_i|^2 at one noise level for each image, in units of x, float64 [N]."""
    out = np.zeros(len(join.distance2))
    for start in range(0, len(out), _ROWS):
        rows = slice(start, start + _ROWS)
        raw = join.distance2[rows]
        distance2 = np.where(raw == np.iinfo(np.int32).max, np.inf, raw / SCALE**2)
        out[rows] = _sharpest(join, rows, distance2, np.full(len(raw), sigma))
    out[join.others == 0] = 0.0
    return out


def certified_sigma(join: SelfJoin, tolerance: float, dim: int) -> np.ndarray:
    """Largest sigma, for each image, at which taking the image as its mean costs at most `tolerance`.

    An exact duplicate, at distance 0, adds nothing: the mean is the same image, whichever of the two made z.
    Near-duplicates keep the certified sigma of both low.

    Args:
        tolerance: mean squared error per dimension, expected over eps, > 0.
        dim: D.
    Returns:
        float32 [N], rounded down; `inf` for the only member of its population, 0 where no sigma is certified.
    """
    allowed = tolerance * dim
    out = np.empty(len(join.distance2), np.float32)
    for start in range(0, len(out), _ROWS):
        rows = slice(start, start + _ROWS)
        raw, others = join.distance2[rows], join.others[rows]
        distance2 = np.where(raw == np.iinfo(np.int32).max, np.inf, raw / SCALE**2)
        low = np.full(len(raw), np.log(_SIGMA_MIN))
        high = np.full(len(raw), np.log(_SIGMA_MAX))
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            fits = _sharpest(join, rows, distance2, np.exp(middle)) <= allowed
            low, high = np.where(fits, middle, low), np.where(fits, high, middle)
        sigma = np.exp(low).astype(np.float32)
        sigma = np.nextafter(sigma, np.float32(0))
        sigma[_sharpest(join, rows, distance2, np.full(len(raw), _SIGMA_MIN)) > allowed] = 0.0
        sigma[others == 0] = np.inf
        out[rows] = sigma
    return out
