"""Metrics, one file each. `metrics_of` is the table of those that flags ask for."""

from postmean.training.watching.config import WatchConfig
from postmean.training.watching.metrics.fidelity import Fidelity
from postmean.training.watching.metrics.metric import Metric


def metrics_of(config: WatchConfig) -> tuple[Metric, ...]:
    """The metrics that the flags of a training ask for."""
    found: list[Metric] = []
    if config.score_kimg:
        weights = config.feature_extractor_weights
        found.append(
            Fidelity(every_kimg=config.score_kimg, images=config.score_images, feature_extractor_weights=weights)
        )
    return tuple(found)


__all__ = ["Fidelity", "Metric", "metrics_of"]
