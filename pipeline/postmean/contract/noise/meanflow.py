"""Pairs of times of MeanFlow."""

from dataclasses import dataclass, replace
from typing import ClassVar

from postmean.base.checks import check_finite, check_finite_positive
from postmean.base.errors import ConfigError
from postmean.base.lazy_numpy import np
from postmean.contract.noise.noise import NoiseLevels, normal_quantile
from postmean.contract.process import AnyProcess

_HALF = 2.0**26
"""A uniform number has 52 random bits: 26 for t, 26 for r."""


@dataclass(frozen=True, kw_only=True)
class MeanFlowNoise:
    """MeanFlow (Geng et al. 2025, Sec. 4.3): t and r are the larger and smaller of two logit-normal times; often r = t.

    sigma is that of t, sigma_next that of r. F being the distribution of one time, t = F^-1(sqrt(a)) and, given t,
    r = F^-1(b F(t)), with independent uniforms a and b. Times are clipped to [t_min, 1 - t_min].
    """

    kind: ClassVar[str] = "meanflow"
    uses_process: ClassVar[bool] = True
    has_teacher: ClassVar[bool] = True
    fits_heun: ClassVar[bool] = False
    steps_of: ClassVar[int | None] = None
    mean: float = -2.0
    std: float = 2.0
    differing: float = 0.75
    """Share of tuples with r below t; the rest has r = t."""
    t_min: float = 1e-3

    def __post_init__(self) -> None:
        check_finite("noise", mean=self.mean)
        check_finite_positive("noise", std=self.std)
        if not (0 < self.t_min < 0.5 and 0 <= self.differing <= 1):
            raise ConfigError(
                f"noise: expected 0 < t_min < 0.5 and 0 <= differing <= 1, got {self.t_min}, {self.differing}"
            )

    def stage_at(self, tuple_id: int) -> None:
        """None: no curriculum."""
        return None

    @property
    def sigma_alone(self) -> "MeanFlowNoise":
        """With the share that is the default, as it moves sigma_next alone."""
        return replace(self, differing=0.75)

    def levels(self, uniform: "np.ndarray", tuple_id: "np.ndarray", process: AnyProcess) -> NoiseLevels:
        cell = np.floor(uniform * _HALF)
        of_t, rest = (cell + 0.5) / _HALF, uniform * _HALF - cell  # both in (0, 1)
        below_t = np.sqrt(of_t)
        share = np.minimum(rest / self.differing, 1.0) if self.differing else np.ones_like(rest)
        t, r = (self._time(probability) for probability in (below_t, share * below_t))
        return NoiseLevels(process.sigma(t).astype(np.float32), process.sigma(r).astype(np.float32))

    def _time(self, probability: "np.ndarray") -> "np.ndarray":
        logit = self.mean + self.std * normal_quantile(probability)
        return np.clip(1 / (1 + np.exp(-logit)), self.t_min, 1 - self.t_min)
