"""The average of EDM."""

from dataclasses import dataclass
from typing import ClassVar

from postmean.base.checks import check_finite_positive


@dataclass(frozen=True, kw_only=True)
class HalfLifeEMA:
    """Karras et al. 2022: a half-life in images, at most `ramp` times the images seen so far."""

    kind: ClassVar[str] = "half-life"
    half_life_kimg: float
    ramp: float = 0.05

    def __post_init__(self) -> None:
        check_finite_positive("ema", half_life_kimg=self.half_life_kimg, ramp=self.ramp)

    def decay_at(self, images: int, batch_size: int) -> float:
        """Decay of the step that takes the run to `images` images."""
        half_life = min(self.half_life_kimg * 1000, images * self.ramp)
        return 0.5 ** (batch_size / max(half_life, 1e-8))
