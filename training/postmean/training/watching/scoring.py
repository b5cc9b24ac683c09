"""Scores of samples while a model trains, on a budget of images."""

from dataclasses import asdict
from typing import Any

from postmean.training.drawing import Wanted, drawn_by_all, guided_by, labels_for, sampler_for
from postmean.training.learner import Learner
from postmean.training.scores import ArrayImages, score
from postmean.training.training_run import TrainingRun
from postmean.training.watching.config import WatchConfig

_SEED = 0


class Scorer:
    """Draws images with all processes, and scores them in the leading one.

    Raises:
        ConfigError: the settings of the sampler do not suit the model.
    """

    def __init__(self, run: TrainingRun, config: WatchConfig, learner: Learner) -> None:
        self._run, self._config, self._card = run, config, learner.card()
        where = str(run.out)
        self._sampler = sampler_for(config.sampling, self._card, where)
        labels = labels_for(None, _SEED, config.score_images, self._card, where)
        self._wanted = Wanted(count=config.score_images, seed=_SEED, labels=labels)

    def score(self, learner: Learner) -> dict[str, Any]:
        """What `postmean evaluate` would measure of these images; every process must call this."""
        world, config = self._run.world, self._config
        denoiser = guided_by(config.sampling, learner.averaged(), self._card, str(self._run.out), world.device)
        pixels = drawn_by_all(world, denoiser, self._sampler, self._card, self._wanted)

        def measure() -> dict[str, Any]:
            weights = config.feature_extractor_weights
            return asdict(score(ArrayImages([pixels]), self._run.store, world.device, weights))

        return world.led(measure)
