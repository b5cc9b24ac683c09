"""The learning rate of EDM2."""

from dataclasses import dataclass
from typing import ClassVar

from postmean.base.checks import check_finite_positive
from postmean.training.schedules.schedule import check_warmup, warm_up


@dataclass(frozen=True, kw_only=True)
class InverseSqrtSchedule:
    """Linear warm-up, then constant, then falling with the square root of the images seen (Karras et al. 2024, Eq. 67:
    alpha_ref / sqrt(max(t / t_ref, 1)))."""

    kind: ClassVar[str] = "inverse-sqrt"
    decay_kimg: float
    """Thousands of images K after which the factor is sqrt(K / kimg)."""
    warmup_kimg: float = 0.0
    """Thousands of images over which the rate rises from 0."""

    def __post_init__(self) -> None:
        check_finite_positive("schedule", decay_kimg=self.decay_kimg)
        check_warmup(self.warmup_kimg)

    def factor(self, images: int) -> float:
        """Factor of the step that takes the run to `images` images."""
        return warm_up(images, self.warmup_kimg) / max(1.0, images / (self.decay_kimg * 1000)) ** 0.5
