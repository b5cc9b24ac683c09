"""Curriculum and distribution of improved consistency training."""

import math
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from postmean.base.checks import check_finite, check_finite_positive
from postmean.base.lazy_numpy import np
from postmean.contract.noise.edge_table import EdgeTable
from postmean.contract.noise.growing_grid import check_growing_grid, levels_on_grids
from postmean.contract.noise.noise import NoiseLevels
from postmean.contract.process import AnyProcess, karras_grid


@dataclass(frozen=True, kw_only=True)
class ICTNoise:
    """iCT: the grid doubles as training proceeds; levels are drawn from a discretised log-normal.

    Song & Dhariwal 2024: N(k) = min(s0 2^floor(k/K'), s1) + 1, K' = floor(K / (log2 floor(s1/s0) + 1)), and
    p(sigma_i) ~ erf((ln sigma_{i+1} - P_mean) / (sqrt2 P_std)) - erf((ln sigma_i - P_mean) / (sqrt2 P_std)).
    The student sits at sigma = sigma_{i+1}, the teacher at sigma_next = sigma_i.
    """

    kind: ClassVar[str] = "ict"
    uses_process: ClassVar[bool] = False
    has_teacher: ClassVar[bool] = True
    fits_heun: ClassVar[bool] = True
    P_mean: float = -1.1
    P_std: float = 2.0
    s0: int = 10
    s1: int = 1280
    total_steps: int = 400_000
    """K, training steps of the whole curriculum."""
    batch_size: int = 1024
    """Tuples per training step: step k consumes tuples [k batch_size, (k+1) batch_size)."""
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        check_finite("noise", P_mean=self.P_mean)
        check_finite_positive("noise", P_std=self.P_std)
        check_growing_grid(self, least=1)

    @property
    def steps_of(self) -> int | None:
        """Batch size of the training steps that the curriculum counts."""
        return self.batch_size

    @property
    def steps_per_stage(self) -> int:
        """K', training steps between two doublings."""
        return max(1, math.floor(self.total_steps / (math.log2(self.s1 // self.s0) + 1)))

    def grid_size(self, step: "np.ndarray") -> "np.ndarray":
        """N(k): the number of noise levels at each training step, int64."""
        # s1 is reached long before 40 doublings; the cap keeps the shift inside int64
        doublings = np.minimum(np.asarray(step, np.int64) // self.steps_per_stage, 40)
        return np.minimum(np.int64(self.s0) << doublings, self.s1) + 1

    def stage_at(self, tuple_id: int) -> int:
        """Doublings so far, whether or not the grid still grows."""
        return tuple_id // self.batch_size // self.steps_per_stage

    @property
    def sigma_alone(self) -> "ICTNoise":
        """Itself: every setting moves sigma."""
        return self

    def levels(self, uniform: "np.ndarray", tuple_id: "np.ndarray", process: AnyProcess) -> NoiseLevels:
        sizes = self.grid_size(np.asarray(tuple_id, np.int64) // self.batch_size)
        return levels_on_grids(sizes, uniform, self._pick)

    def _pick(self, size: int, uniform: "np.ndarray") -> tuple["np.ndarray", "np.ndarray"]:
        grid, edges = _ict_grid(self, size)
        return grid, edges.interval(uniform)


@cache
def _ict_grid(noise: ICTNoise, size: int) -> tuple["np.ndarray", EdgeTable]:
    grid = karras_grid(size, noise.sigma_min, noise.sigma_max, noise.rho)
    edges = np.array([math.erf((math.log(s) - noise.P_mean) / (math.sqrt(2) * noise.P_std)) for s in grid])
    cumulative = np.cumsum(np.diff(edges))
    # without the last edge, no interval is past the grid
    return grid.astype(np.float32), EdgeTable((cumulative / cumulative[-1])[:-1])
