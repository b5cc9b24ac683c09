"""What happens beside the steps of a training: metrics, grids of samples, light models."""

from typing import Any

from postmean.training.learner import Learner
from postmean.training.training_run import TrainingRun
from postmean.training.watching.config import WatchConfig
from postmean.training.watching.every import Every
from postmean.training.watching.grids import Grids
from postmean.training.watching.measuring import Measuring
from postmean.training.watching.metrics import Fidelity, Metric
from postmean.training.watching.models import mark_best, save_model
from postmean.training.watching.outlets import Outlets


class Watcher:
    """Looks at the model after each step, where something is due. Every process calls its methods at the same steps.

    Raises:
        ConfigError: the settings of the sampler do not suit the model.
    """

    def __init__(
        self, run: TrainingRun, config: WatchConfig, learner: Learner, outlets: Outlets, metrics: tuple[Metric, ...]
    ) -> None:
        self._run, self._config, self._learner, self._outlets = run, config, learner, outlets
        self._grids = Grids(run, config, learner)
        self._models = Every(config.model_kimg * 1000, run.config.batch_size)
        self._measuring = Measuring(run, config, learner, metrics)

    def measure(self) -> dict[str, Any]:
        """What the line of metrics of this step says in addition; empty where nothing is due."""
        return self._measuring.measure(self._learner)

    def look(self) -> None:
        """Write the pictures and models that are due, once the line of metrics is written."""
        if self._run.world.leads and self._grids.is_due(self._learner.step):
            self._outlets.picture(self._learner.step, "samples", self._grids.draw(self._learner))
        if self._is_scored() or self._models.is_due(self._learner.step):
            self._run.world.led(self._keep)

    def _is_scored(self) -> bool:
        return any(isinstance(metric, Fidelity) for metric in self._measuring.due(self._learner.step))

    def _keep(self) -> None:
        save_model(self._run.out, self._learner.step, self._learner.averaged_denoiser(), self._config.model_precision)
        if self._is_scored():
            mark_best(self._run.out)
