"""The second certificate: which members can matter to z = x_i + sigma eps, from a few coordinates of z.

Split eps along m orthonormal directions into eps_L, given by m coordinates of z, and the independent rest. The odds of
member j against the source i split likewise: r_j is r_j^L times a log-normal factor of mean 1, so E[r_j | eps_L] =
r_j^L. Leaving out the members of a set `out` moves the mean by

    |mean - mean_kept|^2 <= sum_out p_j |x_j - mean_kept|^2 <= sum_out r_j (R + R_j)^2,

with R_j = |x_j - mu|, R = max_j R_j and mu any point: p_j <= r_j, and mean_kept lies in the ball of radius R around mu.
The expectation of this bound given eps_L is sum_out r_j^L (R + R_j)^2. Members are left out, smallest terms first,
while that sum stays within the tolerance. It takes one narrow product. Proof: docs/certificate.md.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from postmean.engine.masks import few_above
from postmean.engine.population import SCALE, Population, to_integer_units
from postmean.neighbours.directions import Directions

_LIMITS = 4.0 ** np.arange(-10, 1)  # of the terms that are left out, as shares of what these may sum to

_EVERY = 8  # Every eighth member is looked at first: most rows that will stay open have too many candidates among these

DIRECTIONS = 128
"""m: a narrow product costs m / 6 D of a full one here (one float32 product against two int8 products)."""


@dataclass(frozen=True)
class Candidates:
    """Members that can matter to each of B queries, as pairs (row, member) in order of row."""

    row: np.ndarray
    """int64 [P]"""
    member: np.ndarray
    """int64 [P]; each row's source is among its members"""
    open_rows: np.ndarray
    """int64, rows with more candidates than the finder's `most`, or all but certain to have more; they have no pairs"""


class CandidateFinder:
    """Finds the candidates of queries made from known sources.

    Args:
        tolerance: allowed cost of leaving members out: mean squared error per dimension, expected over eps.
        most: most candidates of a row; a row with more stays open, and one that is all but certain to have more.
    """

    def __init__(self, population: Population, tolerance: float, most: float) -> None:
        self._population = population
        d = Directions.of(population, DIRECTIONS)
        self._basis, self._mean = d.basis.to(torch.float64), d.mean.to(torch.float64)
        self._most = most
        radius2 = torch.empty(len(population), device=d.mean.device)
        for start, stop, pixels in population.centred_tiles(d.mean):
            radius2[start:stop] = pixels.square_().sum(1)
        radius = radius2.to(torch.float64).sqrt()
        # (R + R_j)^2 / D in units of x: the factor of each member's odds
        weight = ((radius + radius.max()) / SCALE).square() / population.dim
        log_weight = weight.clamp(min=1e-30).log().to(torch.float32)
        # all that is kept per member: 4 (m + 2) bytes
        self._columns = torch.cat([d.coordinates, -d.half_norm2[:, None], log_weight[:, None]], 1)
        self._log_tolerance = math.log(tolerance)
        half_norm2 = float(d.half_norm2.max())
        self._largest = math.sqrt(2 * half_norm2), half_norm2, float(log_weight.abs().max())

    def find(self, z: torch.Tensor, sigma: np.ndarray, source: np.ndarray) -> Candidates:
        """Candidates of z = x[source] + sigma eps.

        Args:
            z: float32 [B, D]. sigma: float64 [B]. source: int64 [B], members.
        """
        scale = torch.from_numpy((1 / (sigma * SCALE) ** 2).astype(np.float32)).to(z.device)[:, None]
        along = (to_integer_units(z.to(torch.float64)) - self._mean) @ self._basis
        query = along.to(torch.float32) * scale
        of_source = self._columns[torch.from_numpy(source).to(z.device)]
        own = (of_source[:, :-2] * query).sum(1) + of_source[:, -2] * scale[:, 0]
        own -= self._rounding(query, scale)
        left = torch.cat([query, scale, torch.ones_like(scale)], 1)
        is_open = np.zeros(len(source), bool)
        if not z.is_cuda:  # on a GPU the whole product takes less time than a look at a part of it
            *_, is_open = self._not_left_out(left, own, _EVERY)
        likely = np.flatnonzero(~is_open)
        index = torch.from_numpy(likely).to(z.device)
        row, member, is_open[likely] = self._not_left_out(left[index], own[index], 1, source[likely])
        row, member = self._with_sources(likely[row], member, source, is_open)
        return Candidates(row, member, np.flatnonzero(is_open))

    def _not_left_out(
        self, left: torch.Tensor, own: torch.Tensor, every: int, source: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Members that the tolerance does not let go, as pairs (row, member), and a mask of the rows with too many.

        Args:
            left: the rows' coordinates, as the product takes them. own: the source's part of each row's terms.
            every: only each so many members are looked at; these stand for all. Rows may have three standard deviations
                of their number more.
            source: of each row, kept always.
        """
        most = self._most / every + (0 if every == 1 else 3 * math.sqrt(self._most / every))
        # log r_j^L (R + R_j)^2 / D for all members in one product, plus `own`
        log_term = left @ self._columns[::every].t()
        # half of the tolerance for members with tiny terms, half for the smallest of the others
        floor = self._log_tolerance - math.log(2 * len(self._population))
        rows = np.arange(len(left))
        # leaving out the smallest terms will hardly help rows with more
        narrow, bounds, member, term = few_above(log_term, rows, own + floor, 8 * most)
        row = np.repeat(rows[narrow], np.diff(bounds))
        keep = self._above_tolerance(row, term.astype(np.float64) - own.cpu().numpy()[row] + math.log(every))
        if source is not None:
            keep |= member == source[row]
        row, member = row[keep], member[keep]
        return row, member, ~narrow | (np.bincount(row, minlength=len(left)) > most)

    def _rounding(self, query: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Most by which float32 can make log_term - own too small, float32 [B].

        A sum of n products is off by at most n u times the sum of their absolute values, u = 2^-24, in any order. Six
        more roundings are those of coordinates, half norms, query and scale. Both log_term and own have them.
        """
        coordinate, half_norm2, log_weight = self._largest
        size = torch.linalg.vector_norm(query, dim=1) * coordinate + half_norm2 * scale[:, 0] + log_weight
        return 2 * (self._columns.shape[1] + 6) * 2.0**-24 * size

    def _above_tolerance(self, row: np.ndarray, log_term: np.ndarray) -> np.ndarray:
        """Mask of the pairs to keep: without each row's smallest terms, which sum to at most half the tolerance."""
        keep = np.ones(len(row), bool)
        half = self._log_tolerance - math.log(2)
        small = np.flatnonzero(log_term <= half)  # a larger term is kept anyway
        row, log_term = row[small], log_term[small]
        share = np.exp(log_term - half)
        for limit in _LIMITS:  # rising: a row whose terms below a limit sum to too much keeps them
            below = np.flatnonzero(log_term <= half + math.log(limit))
            total = np.bincount(row[below], share[below])
            keep[small[below[total[row[below]] <= 1]]] = False
        return keep

    @staticmethod
    def _with_sources(
        row: np.ndarray, member: np.ndarray, source: np.ndarray, is_open: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Add missing sources (one that does not matter costs nothing), drop open rows, sort."""
        has_source = np.zeros(len(source), bool)
        has_source[row[member == source[row]]] = True
        absent = np.flatnonzero(~has_source)
        row, member = np.concatenate([row, absent]), np.concatenate([member, source[absent]])
        kept = ~is_open[row]
        row, member = row[kept], member[kept]
        order = np.lexsort((member, row))
        return row[order], member[order]
