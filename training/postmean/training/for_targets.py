"""A training recipe for a preset of targets: it has their recipe and length."""

from typing import Any

from postmean.contract.presets import PRESETS as TARGETS
from postmean.training.config import TrainConfig


def for_targets(name: str, batch_size: int, **settings: Any) -> TrainConfig:
    """The recipe that takes each tuple of the target preset `name` once.

    Args:
        settings: other fields of `TrainConfig`.
    """
    targets = TARGETS[name]
    return TrainConfig(recipe=targets.recipe, batch_size=batch_size, steps=targets.tuples // batch_size, **settings)
