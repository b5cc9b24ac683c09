"""Noise distributions and discretisation curricula: from a uniform number and a tuple id to sigma and sigma_next.

Every distribution is a deterministic map, so that tuple n of a run has the same noise levels everywhere.
`sigma_next` is the level of the teacher point of consistency training, None where there is none.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, NamedTuple

import numpy as np

from postmean.base.checks import check_finite, check_finite_positive
from postmean.base.errors import ConfigError
from postmean.contract.process import AnyProcess, karras_grid


class NoiseLevels(NamedTuple):
    """Noise levels of a block of tuples: float32 arrays of one length."""

    sigma: np.ndarray
    sigma_next: np.ndarray | None


@dataclass(frozen=True, kw_only=True)
class LogNormalNoise:
    """EDM: ln sigma ~ N(P_mean, P_std^2) (Karras et al. 2022, Table 1)."""

    kind: ClassVar[str] = "lognormal"
    has_teacher: ClassVar[bool] = False
    steps_of: ClassVar[int | None] = None
    P_mean: float = -1.2
    P_std: float = 1.2

    def __post_init__(self) -> None:
        check_finite("noise", P_mean=self.P_mean)
        check_finite_positive("noise", P_std=self.P_std)

    def levels(self, uniform: np.ndarray, tuple_id: np.ndarray, process: AnyProcess) -> NoiseLevels:
        """Noise levels for uniforms in (0, 1), float64 [n]."""
        return NoiseLevels(np.exp(self.P_mean + self.P_std * normal_quantile(uniform)).astype(np.float32), None)


@dataclass(frozen=True, kw_only=True)
class ICTNoise:
    """iCT: a grid that doubles with the training step, levels drawn from a discretised log-normal.

    Song & Dhariwal 2024: N(k) = min(s0 2^floor(k/K'), s1) + 1, K' = floor(K / (log2 floor(s1/s0) + 1)), and
    p(sigma_i) ~ erf((ln sigma_{i+1} - P_mean) / (sqrt2 P_std)) - erf((ln sigma_i - P_mean) / (sqrt2 P_std)).
    The student sits at sigma = sigma_{i+1}, the teacher at sigma_next = sigma_i.
    """

    kind: ClassVar[str] = "ict"
    has_teacher: ClassVar[bool] = True
    P_mean: float = -1.1
    P_std: float = 2.0
    s0: int = 10
    s1: int = 1280
    total_steps: int = 400_000
    """K, training steps over which the curriculum runs."""
    batch_size: int = 1024
    """Tuples a training step: step k consumes tuples [k batch_size, (k+1) batch_size)."""
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        check_finite("noise", P_mean=self.P_mean, sigma_max=self.sigma_max)
        check_finite_positive(
            "noise", P_std=self.P_std, rho=self.rho, sigma_min=self.sigma_min, batch_size=self.batch_size
        )
        if not self.sigma_min < self.sigma_max:
            raise ConfigError(f"noise: sigma_min {self.sigma_min} must be below sigma_max {self.sigma_max}")
        if not 1 <= self.s0 <= self.s1:
            raise ConfigError(f"noise: expected 1 <= s0 <= s1, got s0 {self.s0}, s1 {self.s1}")
        if self.total_steps < 1:
            raise ConfigError(f"noise: total_steps must be positive, got {self.total_steps}")

    @property
    def steps_of(self) -> int | None:
        """Batch size that the curriculum counts steps of."""
        return self.batch_size

    @property
    def steps_per_stage(self) -> int:
        """K', the training steps between two doublings."""
        return max(1, math.floor(self.total_steps / (math.log2(self.s1 // self.s0) + 1)))

    def grid_size(self, step: np.ndarray) -> np.ndarray:
        """N(k): the number of noise levels at each training step, int64."""
        # beyond 2^40 the minimum has long been s1; the cap keeps the shift inside int64
        doublings = np.minimum(np.asarray(step, np.int64) // self.steps_per_stage, 40)
        return np.minimum(np.int64(self.s0) << doublings, self.s1) + 1

    def levels(self, uniform: np.ndarray, tuple_id: np.ndarray, process: AnyProcess) -> NoiseLevels:
        sizes = self.grid_size(np.asarray(tuple_id, np.int64) // self.batch_size)
        sigma = np.empty(len(uniform), np.float32)
        sigma_next = np.empty(len(uniform), np.float32)
        for size in np.unique(sizes):
            grid, cumulative = _ict_grid(self, int(size))
            rows = sizes == size
            i = np.searchsorted(cumulative, uniform[rows], side="right")
            sigma_next[rows], sigma[rows] = grid[i], grid[i + 1]
        return NoiseLevels(sigma, sigma_next)


@cache
def _ict_grid(noise: ICTNoise, size: int) -> tuple[np.ndarray, np.ndarray]:
    grid = karras_grid(size, noise.sigma_min, noise.sigma_max, noise.rho)
    edges = np.array([math.erf((math.log(s) - noise.P_mean) / (math.sqrt(2) * noise.P_std)) for s in grid])
    cumulative = np.cumsum(np.diff(edges))
    # without the last edge searchsorted cannot return a level past the grid
    return grid.astype(np.float32), (cumulative / cumulative[-1])[:-1]


@dataclass(frozen=True, kw_only=True)
class ECTNoise:
    """ECT (Geng et al. 2024): sigma log-normal, teacher level r that closes in on sigma stage by stage.

    r = max(0, sigma (1 - (1 + k sigmoid(-b sigma)) / q^(stage + 1))), stage = floor(n / stage_tuples).
    """

    kind: ClassVar[str] = "ect"
    has_teacher: ClassVar[bool] = True
    steps_of: ClassVar[int | None] = None
    P_mean: float = -1.1
    P_std: float = 2.0
    q: float = 2.0
    k: float = 8.0
    b: float = 1.0
    stage_tuples: int = 3_200_000
    """Tuples (training images) a stage."""

    def __post_init__(self) -> None:
        check_finite("noise", P_mean=self.P_mean, q=self.q, k=self.k, b=self.b)
        check_finite_positive("noise", P_std=self.P_std, stage_tuples=self.stage_tuples)
        if self.q <= 1 or self.b <= 0:
            raise ConfigError(f"noise: expected q > 1 and b > 0, got q {self.q}, b {self.b}")

    def levels(self, uniform: np.ndarray, tuple_id: np.ndarray, process: AnyProcess) -> NoiseLevels:
        sigma = np.exp(self.P_mean + self.P_std * normal_quantile(uniform))
        stage = np.asarray(tuple_id, np.int64) // self.stage_tuples
        # past stage 1 000 the gap is below float64's resolution of sigma anyway
        shrink = (1 + self.k / (1 + np.exp(self.b * np.minimum(sigma, 700 / self.b)))) / self.q ** (
            np.minimum(stage, 1000) + 1.0
        )
        sigma_next = np.maximum(0.0, sigma * (1 - shrink))
        return NoiseLevels(sigma.astype(np.float32), sigma_next.astype(np.float32))


@dataclass(frozen=True, kw_only=True)
class UniformTimeNoise:
    """t uniform in [t_min, t_max] of the process: VP (Song et al. 2021) and flow matching (Lipman et al. 2023)."""

    kind: ClassVar[str] = "uniform-t"
    has_teacher: ClassVar[bool] = False
    steps_of: ClassVar[int | None] = None
    t_min: float = 1e-5
    t_max: float = 1.0

    def __post_init__(self) -> None:
        check_finite("noise", t_max=self.t_max)
        if not 0 < self.t_min < self.t_max:
            raise ConfigError(f"noise: expected 0 < t_min < t_max, got {self.t_min}, {self.t_max}")

    def levels(self, uniform: np.ndarray, tuple_id: np.ndarray, process: AnyProcess) -> NoiseLevels:
        t = self.t_min + (self.t_max - self.t_min) * uniform
        return NoiseLevels(process.sigma(t).astype(np.float32), None)


@dataclass(frozen=True, kw_only=True)
class LogitNormalTimeNoise:
    """logit t ~ N(mean, std^2), clipped to [t_min, 1 - t_min] (flow matching, Esser et al. 2024)."""

    kind: ClassVar[str] = "logit-normal-t"
    has_teacher: ClassVar[bool] = False
    steps_of: ClassVar[int | None] = None
    mean: float = 0.0
    std: float = 1.0
    t_min: float = 1e-3

    def __post_init__(self) -> None:
        check_finite("noise", mean=self.mean)
        check_finite_positive("noise", std=self.std)
        if not 0 < self.t_min < 0.5:
            raise ConfigError(f"noise: expected 0 < t_min < 0.5, got {self.t_min}")

    def levels(self, uniform: np.ndarray, tuple_id: np.ndarray, process: AnyProcess) -> NoiseLevels:
        logit = self.mean + self.std * normal_quantile(uniform)
        t = np.clip(1 / (1 + np.exp(-logit)), self.t_min, 1 - self.t_min)
        return NoiseLevels(process.sigma(t).astype(np.float32), None)


def normal_quantile(uniform: np.ndarray) -> np.ndarray:
    """Standard normal quantile of uniforms in (0, 1), float64."""
    from scipy.special import ndtri  # here: scipy costs every command's --help half a second

    return ndtri(uniform)


AnyNoise = LogNormalNoise | ICTNoise | ECTNoise | UniformTimeNoise | LogitNormalTimeNoise
"""Every noise distribution. Beside `levels` each has the traits

- `kind`: its name in files;
- `has_teacher`: whether levels have a sigma_next, so that there is a teacher point;
- `steps_of`: the batch size that its curriculum counts steps of, None without such a curriculum.
"""
