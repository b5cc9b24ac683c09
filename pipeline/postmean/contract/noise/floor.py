"""A noise distribution given by a table, such as the one that the loss floor of a data set suggests."""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import ClassVar

from postmean.base.checks import is_finite_positive
from postmean.base.errors import ConfigError
from postmean.base.lazy_numpy import np
from postmean.contract.noise.noise import NoiseLevels
from postmean.contract.process import AnyProcess


@dataclass(frozen=True, kw_only=True)
class FloorNoise:
    """ln sigma has a density that is linear between the knots of a table. `postmean floor` makes the table."""

    kind: ClassVar[str] = "floor"
    uses_process: ClassVar[bool] = False
    has_teacher: ClassVar[bool] = False
    fits_heun: ClassVar[bool] = False
    steps_of: ClassVar[int | None] = None
    sigma: tuple[float, ...] = (0.002, 80.0)
    """Rising noise levels of the knots; sigma is never outside them."""
    density: tuple[float, ...] = (1.0, 1.0)
    """Density of ln sigma at the knots, up to a factor; without a table it is uniform."""

    def __post_init__(self) -> None:
        if len(self.sigma) != len(self.density) or len(self.sigma) < 2:
            raise ConfigError(
                f"noise: got {len(self.sigma)} values of sigma and {len(self.density)} of density, expected as many of "
                "each and at least 2: `postmean floor STORE --out FOLDER` writes such a table"
            )
        if not all(is_finite_positive(s) for s in self.sigma) or any(a >= b for a, b in pairwise(self.sigma)):
            raise ConfigError(f"noise.sigma: expected positive rising noise levels, got {self.sigma}")
        if not all(is_finite_positive(d) for d in self.density):
            raise ConfigError(f"noise.density: expected positive numbers, got {self.density}")

    @property
    def sigma_alone(self) -> "FloorNoise":
        """Itself: every setting moves sigma."""
        return self

    def stage_at(self, tuple_id: int) -> None:
        """None: no curriculum."""
        return None

    def levels(self, uniform: "np.ndarray", tuple_id: "np.ndarray", process: AnyProcess) -> NoiseLevels:
        knots, density, cumulative = _table(self)
        i = np.clip(np.searchsorted(cumulative, uniform, side="right") - 1, 0, len(knots) - 2)
        width, low = np.diff(knots)[i], density[i]
        rest, slope = uniform - cumulative[i], np.diff(density)[i] / width
        # the t with low t + slope t^2 / 2 = rest, in the form that does not cancel
        step = 2 * rest / (low + np.sqrt(np.maximum(low**2 + 2 * slope * rest, 0)))
        return NoiseLevels(np.exp(knots[i] + np.minimum(step, width)).astype(np.float32), None)


def floor_noise(sigma: "np.ndarray", variance: "np.ndarray", dim: int) -> FloorNoise:
    """A noise distribution from a loss floor: half of the tuples where the floor is, half everywhere.

    One half has the density D variance / sigma^2 of ln sigma. By the I-MMSE relation (Guo, Shamai, Verdu 2005) this is
    the rate at which z loses the image as the noise rises; its integral is ln N for N distinct images. The other half
    is uniform in ln sigma, as a network must learn every level.

    Args:
        sigma: rising noise levels, [n]. variance: E Var(x | z, sigma) per dimension, [n].
        dim: D.
    Raises:
        ConfigError: the floor is 0 at every sigma.
    """
    rate, level = dim * np.asarray(variance) / np.asarray(sigma) ** 2, np.log(sigma)
    total = float(np.trapezoid(rate, level))
    if not total > 0:
        raise ConfigError(f"floor: 0 at every sigma from {sigma[0]:g} to {sigma[-1]:g}: pass larger --sigmas")
    density = 0.5 * rate / total + 0.5 / (level[-1] - level[0])
    # five digits, so that the table reads well
    return FloorNoise(sigma=tuple(map(_five, sigma)), density=tuple(map(_five, density)))


def _five(value: float) -> float:
    return float(f"{float(value):.5g}")


@cache
def _table(noise: FloorNoise) -> tuple["np.ndarray", "np.ndarray", "np.ndarray"]:
    """ln sigma, density and cumulative distribution at the knots, float64."""
    knots, density = np.log(noise.sigma), np.asarray(noise.density, np.float64)
    mass = np.diff(knots) * (density[1:] + density[:-1]) / 2
    density = density / mass.sum()
    return knots, density, np.concatenate([[0.0], np.cumsum(mass / mass.sum())])
