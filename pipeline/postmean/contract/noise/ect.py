"""Distribution and stages of easy consistency tuning."""

from dataclasses import dataclass
from typing import ClassVar

from postmean.base.checks import check_finite, check_finite_positive
from postmean.base.errors import ConfigError
from postmean.base.lazy_numpy import np
from postmean.contract.noise.log_normal import LogNormalNoise
from postmean.contract.noise.noise import NoiseLevels, normal_quantile
from postmean.contract.process import AnyProcess


@dataclass(frozen=True, kw_only=True)
class ECTNoise:
    """ECT (Geng et al. 2024): log-normal sigma; the teacher level r approaches sigma stage by stage.

    r = max(0, sigma (1 - (1 + k sigmoid(-b sigma)) / q^(stage + 1))), stage = floor(n / stage_tuples).
    """

    kind: ClassVar[str] = "ect"
    uses_process: ClassVar[bool] = False
    has_teacher: ClassVar[bool] = True
    fits_heun: ClassVar[bool] = False
    steps_of: ClassVar[int | None] = None
    P_mean: float = -1.1
    P_std: float = 2.0
    q: float = 2.0
    k: float = 8.0
    b: float = 1.0
    stage_tuples: int = 3_200_000
    """Tuples (training images) per stage."""

    def __post_init__(self) -> None:
        check_finite("noise", P_mean=self.P_mean, q=self.q, k=self.k, b=self.b)
        check_finite_positive("noise", P_std=self.P_std, stage_tuples=self.stage_tuples)
        if self.q <= 1 or self.b <= 0:
            raise ConfigError(f"noise: expected q > 1 and b > 0, got q {self.q}, b {self.b}")

    @property
    def sigma_alone(self) -> LogNormalNoise:
        """The log-normal distribution: q, k, b and stage_tuples move sigma_next alone."""
        return LogNormalNoise(P_mean=self.P_mean, P_std=self.P_std)

    def stage_at(self, tuple_id: int) -> int:
        """Stage of the gap between sigma and r."""
        return tuple_id // self.stage_tuples

    def levels(self, uniform: "np.ndarray", tuple_id: "np.ndarray", process: AnyProcess) -> NoiseLevels:
        sigma = np.exp(self.P_mean + self.P_std * normal_quantile(uniform))
        stage = np.asarray(tuple_id, np.int64) // self.stage_tuples
        # after stage 1 000 the gap is below float64's resolution of sigma (for q above 1.04)
        shrink = (1 + self.k / (1 + np.exp(self.b * np.minimum(sigma, 700 / self.b)))) / self.q ** (
            np.minimum(stage, 1000) + 1.0
        )
        sigma_next = np.maximum(0.0, sigma * (1 - shrink))
        return NoiseLevels(sigma.astype(np.float32), sigma_next.astype(np.float32))
