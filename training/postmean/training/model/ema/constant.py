"""The average with one decay."""

from dataclasses import dataclass
from typing import ClassVar

from postmean.base.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ConstantEMA:
    """Average of the weights with the same decay at every step."""

    kind: ClassVar[str] = "constant"
    decay: float

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ConfigError(f"ema.decay: expected 0 <= decay < 1, got {self.decay}")

    def decay_at(self, images: int, batch_size: int) -> float:
        """Decay of the step that takes the run to `images` images."""
        return self.decay
