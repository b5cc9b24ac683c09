"""Posterior means over short lists of candidates, one list per query."""

from dataclasses import dataclass

import numpy as np
import torch

from postmean.engine.population import SCALE, Population, from_integer_units, to_integer_units
from postmean.engine.ragged import batches


@dataclass(frozen=True)
class PairMeans:
    """Posterior over the candidates of each query."""

    weight: np.ndarray
    """float64 [P], normalised within each row"""
    mean: torch.Tensor
    """float32 [B, D] in [-1, 1]"""
    variance: np.ndarray
    """float64 [B], per dimension"""


def pair_means(
    population: Population, z: torch.Tensor, sigma: np.ndarray, row: np.ndarray, member: np.ndarray
) -> PairMeans:
    """Posterior weights and means over given candidates.

    log w_j = (2 u.d_j - |d_j|^2) / 2 sigma^2 in integer units, relative to the first candidate o of the row, where
    d_j = s_j - s_o is an exact integer difference and u = z - s_o. Both terms are of the size of the result, so
    nothing cancels.

    Args:
        z: float32 [B, D], in units of x, on the population's device.
        sigma: float64 [B].
        row, member: int64 [P], candidates ordered by row; each row has at least one.
    """
    bounds = np.searchsorted(row, np.arange(len(z) + 1))
    origin = population.rows(member[bounds[:-1]]).to(torch.float32)
    u = to_integer_units(z) - origin
    twice_sigma2 = torch.from_numpy(2 * (sigma * SCALE) ** 2).to(z.device)
    weight = torch.ones(len(row), dtype=torch.float64, device=z.device)
    variance = torch.zeros(len(z), dtype=torch.float64, device=z.device)
    # most queries at small sigma have a single candidate, which is the mean
    several = np.flatnonzero(np.diff(bounds) > 1)
    lists = np.concatenate([[0], np.cumsum(np.diff(bounds)[several])])
    position = np.flatnonzero(np.repeat(np.diff(bounds) > 1, np.diff(bounds)))
    for batch in batches(lists, population):
        rows = torch.from_numpy(several[batch.row]).to(z.device)
        place = position[batch.position]
        s = population.rows(member[place].ravel()).to(torch.float32)
        d = s.view(*place.shape, population.dim).sub_(origin[rows, None])
        # on a CPU, a norm takes a third of the time of vecdot, and this order of bmm half of the other's
        norm2 = torch.linalg.vector_norm(d, dim=2).to(torch.float64).square_()
        along = torch.bmm(u[rows, None], d.transpose(1, 2))[:, 0].to(torch.float64)
        valid = torch.from_numpy(batch.valid).to(z.device)
        log_w = (2 * along - norm2).div_(twice_sigma2[rows, None]).masked_fill_(~valid, -torch.inf)
        w = torch.softmax(log_w, 1)
        listed = torch.from_numpy(np.flatnonzero(batch.valid)).to(z.device)
        weight[torch.from_numpy(place[batch.valid]).to(z.device)] = w.flatten()[listed]
        shift = torch.bmm(w.to(torch.float32)[:, None], d)[:, 0]
        second = (w * norm2).sum(1)
        variance[rows] = (second - shift.square().sum(1, dtype=torch.float64)).clamp_(min=0.0)
        origin[rows] += shift
    return PairMeans(
        weight.cpu().numpy(), from_integer_units(origin), variance.cpu().numpy() / population.dim / SCALE**2
    )
