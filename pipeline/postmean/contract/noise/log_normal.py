"""The log-normal distribution of EDM."""

from dataclasses import dataclass
from typing import ClassVar

from postmean.base.checks import check_finite, check_finite_positive
from postmean.base.lazy_numpy import np
from postmean.contract.noise.noise import NoiseLevels, normal_quantile
from postmean.contract.process import AnyProcess


@dataclass(frozen=True, kw_only=True)
class LogNormalNoise:
    """EDM: ln sigma ~ N(P_mean, P_std^2) (Karras et al. 2022, Table 1)."""

    kind: ClassVar[str] = "lognormal"
    uses_process: ClassVar[bool] = False
    has_teacher: ClassVar[bool] = False
    fits_heun: ClassVar[bool] = False
    steps_of: ClassVar[int | None] = None
    P_mean: float = -1.2
    P_std: float = 1.2

    def __post_init__(self) -> None:
        check_finite("noise", P_mean=self.P_mean)
        check_finite_positive("noise", P_std=self.P_std)

    @property
    def sigma_alone(self) -> "LogNormalNoise":
        """Itself: every setting moves sigma."""
        return self

    def stage_at(self, tuple_id: int) -> None:
        """None: no curriculum."""
        return None

    def levels(self, uniform: "np.ndarray", tuple_id: "np.ndarray", process: AnyProcess) -> NoiseLevels:
        return NoiseLevels(np.exp(self.P_mean + self.P_std * normal_quantile(uniform)).astype(np.float32), None)
