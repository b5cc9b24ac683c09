"""Diffusion processes z_t = s(t) (x + sigma(t) eps), each reduced to the canonical z = x + sigma eps.

Niedoba et al. 2024, App. B: the posterior of a general process at z_t is that of the canonical one at z_t / s(t).
The whole pipeline works on the canonical z; a process converts between noise level, time and scale.

Every process (`AnyProcess`) has these methods; they take and return float64 arrays of one shape:

    sigma(t)    noise level of the canonical process at time t
    t(sigma)    time of a noise level: the inverse of `sigma`
    s(sigma)    scale s(t) at the time of a noise level: the process's own variable is z_t = s z
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from postmean.base.checks import is_finite_positive
from postmean.base.errors import ConfigError
from postmean.base.lazy_numpy import np
from postmean.base.paths import local_path


@dataclass(frozen=True, kw_only=True)
class EDMProcess:
    """Karras et al. 2022: sigma(t) = t, s(t) = 1."""

    kind: ClassVar[str] = "edm"

    def sigma(self, t: "np.ndarray") -> "np.ndarray":
        return np.asarray(t, np.float64)

    def t(self, sigma: "np.ndarray") -> "np.ndarray":
        return np.asarray(sigma, np.float64)

    def s(self, sigma: "np.ndarray") -> "np.ndarray":
        return np.ones_like(np.asarray(sigma, np.float64))


@dataclass(frozen=True, kw_only=True)
class VPProcess:
    """Variance preserving (Song et al. 2021; Niedoba et al. 2024, Eq. 44 and 45), t in (0, 1]."""

    kind: ClassVar[str] = "vp"
    beta_d: float = 19.9
    """Slope of the linear noise schedule."""
    beta_min: float = 0.1
    """Start of the noise schedule, at t = 0."""

    def __post_init__(self) -> None:
        if not (is_finite_positive(self.beta_d) and is_finite_positive(self.beta_min)):
            raise ConfigError(f"process: beta_d {self.beta_d} and beta_min {self.beta_min} must be positive and finite")

    def sigma(self, t: "np.ndarray") -> "np.ndarray":
        t = np.asarray(t, np.float64)
        return np.sqrt(np.expm1(0.5 * self.beta_d * t**2 + self.beta_min * t))

    def t(self, sigma: "np.ndarray") -> "np.ndarray":
        exponent = np.log1p(np.asarray(sigma, np.float64) ** 2)
        # 2e / (b + sqrt(b^2 + 2 d e)) rather than (sqrt(..) - b) / d: no cancellation at small sigma
        return 2 * exponent / (self.beta_min + np.sqrt(self.beta_min**2 + 2 * self.beta_d * exponent))

    def s(self, sigma: "np.ndarray") -> "np.ndarray":
        return 1 / np.sqrt(1 + np.asarray(sigma, np.float64) ** 2)


@dataclass(frozen=True, kw_only=True)
class FlowMatchingProcess:
    """Linear interpolant z_t = (1 - t) x + t eps: s = 1 - t, sigma = t / (1 - t), t in (0, 1)."""

    kind: ClassVar[str] = "flow"

    def sigma(self, t: "np.ndarray") -> "np.ndarray":
        t = np.asarray(t, np.float64)
        return t / (1 - t)

    def t(self, sigma: "np.ndarray") -> "np.ndarray":
        sigma = np.asarray(sigma, np.float64)
        return sigma / (1 + sigma)

    def s(self, sigma: "np.ndarray") -> "np.ndarray":
        return 1 / (1 + np.asarray(sigma, np.float64))


@dataclass(frozen=True, kw_only=True)
class TableProcess:
    """Any other process, given by a table of t, s(t) and sigma(t) with sigma rising strictly in t.

    Between the rows, ln sigma and ln s are linear in t. Values outside the table raise ConfigError: no extrapolation.
    """

    kind: ClassVar[str] = "table"
    t_knots: tuple[float, ...]
    s_knots: tuple[float, ...]
    sigma_knots: tuple[float, ...]

    def __post_init__(self) -> None:
        t, s, sigma = (np.asarray(k, np.float64) for k in (self.t_knots, self.s_knots, self.sigma_knots))
        if not (len(t) == len(s) == len(sigma) >= 2):
            raise ConfigError(f"process table: got {len(t)} t, {len(s)} s, {len(sigma)} sigma, expected equal and >= 2")
        if not np.isfinite([t, s, sigma]).all():
            raise ConfigError("process table: t, s and sigma must be finite")
        if not (np.all(np.diff(t) > 0) and np.all(np.diff(sigma) > 0) and sigma[0] > 0 and np.all(s > 0)):
            raise ConfigError("process table: t and sigma must rise strictly, sigma and s must be positive")

    @classmethod
    def from_csv(cls, path: Path) -> "TableProcess":
        """Read a CSV with the header t,s,sigma; ConfigError if that fails."""
        try:
            with local_path(path).open(newline="") as file:
                rows = [(float(r["t"]), float(r["s"]), float(r["sigma"])) for r in csv.DictReader(file)]
        except (OSError, KeyError, ValueError, TypeError) as error:  # TypeError: a short row
            raise ConfigError(f"process table {path}: {error!r}: expected a CSV with the header t,s,sigma") from error
        t, s, sigma = (tuple(column) for column in zip(*rows, strict=True)) if rows else ((), (), ())
        return cls(t_knots=t, s_knots=s, sigma_knots=sigma)

    def sigma(self, t: "np.ndarray") -> "np.ndarray":
        t = self._inside(t, self.t_knots, "t")
        return np.exp(np.interp(t, self.t_knots, np.log(self.sigma_knots)))

    def t(self, sigma: "np.ndarray") -> "np.ndarray":
        # the end knots' sigmas, rounded to float32, may lie half a unit in the last place outside: `_inside` allows it
        sigma = self._inside(sigma, self.sigma_knots, "sigma")
        return np.interp(np.log(sigma), np.log(self.sigma_knots), self.t_knots)

    def s(self, sigma: "np.ndarray") -> "np.ndarray":
        return np.exp(np.interp(self.t(sigma), self.t_knots, np.log(self.s_knots)))

    @staticmethod
    def _inside(value: "np.ndarray", knots: tuple[float, ...], name: str) -> "np.ndarray":
        value = np.asarray(value, np.float64)
        slack = 1e-6 * max(abs(knots[0]), abs(knots[-1]))
        if value.size and (value.min() < knots[0] - slack or value.max() > knots[-1] + slack):
            raise ConfigError(
                f"process table: {name} {value.min():g}..{value.max():g} leaves the table's "
                f"{knots[0]:g}..{knots[-1]:g}: extend the table"
            )
        return np.clip(value, knots[0], knots[-1])


AnyProcess = EDMProcess | VPProcess | FlowMatchingProcess | TableProcess


def karras_grid(levels: int, sigma_min: float, sigma_max: float, rho: float) -> "np.ndarray":
    """Rising float64 noise levels sigma_1 = sigma_min .. sigma_levels = sigma_max (Karras et al. 2022, Eq. 5)."""
    ramp = np.linspace(0.0, 1.0, levels)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    grid = (low + ramp * (high - low)) ** rho
    grid[0], grid[-1] = sigma_min, sigma_max
    return grid
