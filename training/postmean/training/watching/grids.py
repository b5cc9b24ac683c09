"""Grids of samples while a model trains: OUT/grids/STEP.png, from the same noise each time.

They change nothing of the training: samplers have random numbers of their own.
"""

import numpy as np

from postmean.training.drawing import guided_by, labels_for, sampler_for
from postmean.training.images import write_grid
from postmean.training.learner import Learner
from postmean.training.model.sampling import sample_batches
from postmean.training.training_run import TrainingRun
from postmean.training.watching.config import WatchConfig
from postmean.training.watching.every import Every

FOLDER = "grids"
_SEED = 0
_COST = 0.01
"""Share of a training that its grids may cost by default."""
_MOST = 20
"""Grids of a run by default."""
_STEP_COST = 3
"""Forward passes that the training takes for an image, at least: one, and a backward pass of two."""


class Grids:
    """The grids of a run, drawn in the leading process.

    Raises:
        ConfigError: the settings of the sampler do not suit the model.
    """

    def __init__(self, run: TrainingRun, config: WatchConfig, learner: Learner) -> None:
        self._config, self._out, self._device = config.sampling, run.out, run.world.device
        self._card, self._count = learner.card(), config.grid_count
        where = str(run.out)
        self._sampler = sampler_for(config.sampling, self._card, where)
        self._labels = labels_for(None, _SEED, config.grid_count, self._card, where)
        total = run.config.steps * run.config.batch_size
        self._every = Every(self._interval(config.grid_kimg, total), run.config.batch_size)

    def _interval(self, kimg: float | None, total: int) -> float:
        """Images between two grids; by default 20 grids a run, or fewer to keep their cost down."""
        if kimg is not None:
            return kimg * 1000
        cost = self._count * self._sampler.evaluations / _STEP_COST
        number = min(_MOST, int(total * _COST / cost))
        return total / number if number else 0.0

    def is_due(self, step: int) -> bool:
        """Whether the step has a grid."""
        return self._every.is_due(step)

    def draw(self, learner: Learner) -> np.ndarray:
        """Write the grid of a step; also returns it, uint8 [C, H, W]."""
        denoiser = guided_by(self._config, learner.averaged(), self._card, str(self._out), self._device)
        shape = self._card.image_shape
        batches = sample_batches(
            denoiser, self._sampler, self._count, shape, _SEED, labels=self._labels, device=self._device
        )
        (self._out / FOLDER).mkdir(exist_ok=True)
        path = self._out / FOLDER / f"{learner.step:08d}.png"
        return write_grid(path, np.concatenate(list(batches)), columns=min(8, self._count))
