"""Metrics while a model trains: images drawn by all processes, looked at in the leading one."""

from typing import Any

import numpy as np

from postmean.training.drawing import Wanted, drawn_by_all, guided_by, labels_for, sampler_for
from postmean.training.learner import Learner
from postmean.training.training_run import TrainingRun
from postmean.training.watching.config import WatchConfig
from postmean.training.watching.every import Every
from postmean.training.watching.metrics import Metric

_SEED = 0


class Measuring:
    """The metrics of a run, each at its steps.

    Raises:
        ConfigError: the settings of the sampler do not suit the model.
    """

    def __init__(self, run: TrainingRun, config: WatchConfig, learner: Learner, metrics: tuple[Metric, ...]) -> None:
        self._run, self._config, self._card = run, config, learner.card()
        self._metrics = [(metric, Every(metric.every_kimg * 1000, run.config.batch_size)) for metric in metrics]
        self._sampler = sampler_for(config.sampling, self._card, str(run.out))

    def due(self, step: int) -> list[Metric]:
        """The metrics of a step."""
        return [metric for metric, every in self._metrics if every.is_due(step)]

    def measure(self, learner: Learner) -> dict[str, Any]:
        """What the line of the step just done says in addition, by name; every process must call this."""
        due = self.due(learner.step)
        most = max((metric.images for metric in due), default=0)
        images = self._drawn(learner, most) if most else np.zeros((0, *self._card.image_shape), np.uint8)
        model, store = learner.averaged(), self._run.store

        def measured() -> dict[str, Any]:
            return {metric.name: metric.measure(model, images[: metric.images], store) for metric in due}

        return self._run.world.led(measured) if due else {}

    def _drawn(self, learner: Learner, count: int) -> np.ndarray:
        """Images 0 .. count - 1 of the seed, uint8 [count, C, H, W]."""
        world, config, where = self._run.world, self._config.sampling, str(self._run.out)
        denoiser = guided_by(config, learner.averaged(), self._card, where, world.device)
        labels = labels_for(None, _SEED, count, self._card, where)
        wanted = Wanted(count=count, seed=_SEED, labels=labels)
        return drawn_by_all(world, denoiser, self._sampler, self._card, wanted)
