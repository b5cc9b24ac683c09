"""The cosine schedule."""

import math
from dataclasses import dataclass
from typing import ClassVar

from postmean.base.checks import check_finite_positive
from postmean.base.errors import ConfigError
from postmean.training.schedules.schedule import check_warmup, warm_up


@dataclass(frozen=True, kw_only=True)
class CosineSchedule:
    """Linear warm-up, then half a cosine down to `lowest` (Loshchilov & Hutter 2017, Eq. 5, without restarts)."""

    kind: ClassVar[str] = "cosine"
    end_kimg: float
    """Thousands of images at which the rate is lowest; it stays there."""
    warmup_kimg: float = 0.0
    """Thousands of images over which the rate rises from 0; the cosine begins after them."""
    lowest: float = 0.0
    """Factor at the end."""

    def __post_init__(self) -> None:
        check_finite_positive("schedule", end_kimg=self.end_kimg)
        check_warmup(self.warmup_kimg)
        if not self.warmup_kimg < self.end_kimg or not 0 <= self.lowest <= 1:
            raise ConfigError(
                f"schedule: expected warmup_kimg below end_kimg and 0 <= lowest <= 1, got {self.warmup_kimg}, "
                f"{self.end_kimg}, {self.lowest}"
            )

    def factor(self, images: int) -> float:
        """Factor of the step that takes the run to `images` images."""
        kimg = images / 1000
        if kimg < self.warmup_kimg:
            return warm_up(images, self.warmup_kimg)
        done = min(1.0, (kimg - self.warmup_kimg) / (self.end_kimg - self.warmup_kimg))
        return self.lowest + (1 - self.lowest) * (1 + math.cos(math.pi * done)) / 2
