"""The form of a learning-rate schedule, and the warm-up that schedules share.

A new schedule is one file with a frozen dataclass of this form. Add it to `AnySchedule` so that the commands can name
it; `train(..., schedule=...)` takes any.
"""

from typing import ClassVar, Protocol

from postmean.base.errors import ConfigError


class Schedule(Protocol):
    """A factor on the optimiser's learning rate, as a function of the images seen."""

    kind: ClassVar[str]
    """Name in config.json and on the command line."""

    def factor(self, images: int) -> float:
        """Factor of the step that takes the run to `images` images. It must not depend on the run's length, which may
        change when the run is resumed."""
        ...


def warm_up(images: int, warmup_kimg: float) -> float:
    """Rises linearly from 0 to 1 over `warmup_kimg` thousand images."""
    return min(1.0, images / (warmup_kimg * 1000)) if warmup_kimg else 1.0


def check_warmup(warmup_kimg: float) -> None:
    """Raise ConfigError unless the warm-up is finite and not negative."""
    if not 0 <= warmup_kimg < float("inf"):
        raise ConfigError(f"schedule.warmup_kimg: expected a finite number >= 0, got {warmup_kimg}")
