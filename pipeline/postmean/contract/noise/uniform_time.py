"""Uniformly distributed times."""

from dataclasses import dataclass
from typing import ClassVar

from postmean.base.checks import check_finite
from postmean.base.errors import ConfigError
from postmean.base.lazy_numpy import np
from postmean.contract.noise.noise import NoiseLevels
from postmean.contract.process import AnyProcess


@dataclass(frozen=True, kw_only=True)
class UniformTimeNoise:
    """Process time t uniform in [t_min, t_max]: VP (Song et al. 2021) and flow matching (Lipman et al. 2023)."""

    kind: ClassVar[str] = "uniform-t"
    uses_process: ClassVar[bool] = True
    has_teacher: ClassVar[bool] = False
    fits_heun: ClassVar[bool] = False
    steps_of: ClassVar[int | None] = None
    t_min: float = 1e-5
    t_max: float = 1.0

    def __post_init__(self) -> None:
        check_finite("noise", t_max=self.t_max)
        if not 0 < self.t_min < self.t_max:
            raise ConfigError(f"noise: expected 0 < t_min < t_max, got {self.t_min}, {self.t_max}")

    @property
    def sigma_alone(self) -> "UniformTimeNoise":
        """Itself: every setting moves sigma."""
        return self

    def stage_at(self, tuple_id: int) -> None:
        """None: no curriculum."""
        return None

    def levels(self, uniform: "np.ndarray", tuple_id: "np.ndarray", process: AnyProcess) -> NoiseLevels:
        t = self.t_min + (self.t_max - self.t_min) * uniform
        return NoiseLevels(process.sigma(t).astype(np.float32), None)
