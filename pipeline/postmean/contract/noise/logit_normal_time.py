"""Logit-normally distributed times."""

from dataclasses import dataclass
from typing import ClassVar

from postmean.base.checks import check_finite, check_finite_positive
from postmean.base.errors import ConfigError
from postmean.base.lazy_numpy import np
from postmean.contract.noise.noise import NoiseLevels, normal_quantile
from postmean.contract.process import AnyProcess


@dataclass(frozen=True, kw_only=True)
class LogitNormalTimeNoise:
    """logit t ~ N(mean, std^2), clipped to [t_min, 1 - t_min] (flow matching, Esser et al. 2024)."""

    kind: ClassVar[str] = "logit-normal-t"
    uses_process: ClassVar[bool] = True
    has_teacher: ClassVar[bool] = False
    fits_heun: ClassVar[bool] = False
    steps_of: ClassVar[int | None] = None
    mean: float = 0.0
    std: float = 1.0
    t_min: float = 1e-3

    def __post_init__(self) -> None:
        check_finite("noise", mean=self.mean)
        check_finite_positive("noise", std=self.std)
        if not 0 < self.t_min < 0.5:
            raise ConfigError(f"noise: expected 0 < t_min < 0.5, got {self.t_min}")

    @property
    def sigma_alone(self) -> "LogitNormalTimeNoise":
        """Itself: every setting moves sigma."""
        return self

    def stage_at(self, tuple_id: int) -> None:
        """None: no curriculum."""
        return None

    def levels(self, uniform: "np.ndarray", tuple_id: "np.ndarray", process: AnyProcess) -> NoiseLevels:
        logit = self.mean + self.std * normal_quantile(uniform)
        t = np.clip(1 / (1 + np.exp(-logit)), self.t_min, 1 - self.t_min)
        return NoiseLevels(process.sigma(t).astype(np.float32), None)
