"""The constant learning rate."""

from dataclasses import dataclass
from typing import ClassVar

from postmean.training.schedules.schedule import check_warmup, warm_up


@dataclass(frozen=True, kw_only=True)
class ConstantSchedule:
    """Linear warm-up, then constant."""

    kind: ClassVar[str] = "constant"
    warmup_kimg: float = 0.0
    """Thousands of images over which the rate rises from 0."""

    def __post_init__(self) -> None:
        check_warmup(self.warmup_kimg)

    def factor(self, images: int) -> float:
        """Factor of the step that takes the run to `images` images."""
        return warm_up(images, self.warmup_kimg)
