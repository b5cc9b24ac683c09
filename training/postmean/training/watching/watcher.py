"""What happens beside the steps of a training: grids of samples, light models, scores."""

from typing import Any

from postmean.training.learner import Learner
from postmean.training.training_run import TrainingRun
from postmean.training.watching.config import WatchConfig
from postmean.training.watching.every import Every
from postmean.training.watching.grids import Grids
from postmean.training.watching.models import mark_best, save_model
from postmean.training.watching.outlets import Outlets


class Watcher:
    """Looks at the model after each step, where something is due. Every process calls its methods at the same steps.

    Raises:
        ConfigError: the settings of the sampler do not suit the model.
    """

    def __init__(self, run: TrainingRun, config: WatchConfig, learner: Learner, outlets: Outlets) -> None:
        self._run, self._config, self._learner, self._outlets = run, config, learner, outlets
        self._grids = Grids(run, config, learner)
        batch_size = run.config.batch_size
        self._models, self._scores = (Every(k * 1000, batch_size) for k in (config.model_kimg, config.score_kimg))
        self._scorer = None
        if config.score_kimg:
            from postmean.training.watching.scoring import Scorer  # here: torch-fidelity takes a second

            self._scorer = Scorer(run, config, learner)

    def has_scores(self) -> bool:
        """Whether the step just done is scored."""
        return self._scores.is_due(self._learner.step)

    def scores(self) -> dict[str, Any]:
        """What the line of metrics of this step says in addition."""
        if self._scorer is None or not self.has_scores():
            return {}
        return {"scores": self._scorer.score(self._learner)}

    def look(self) -> None:
        """Write the pictures and models that are due, once the line of metrics is written."""
        if self._run.world.leads and self._grids.is_due(self._learner.step):
            self._outlets.picture(self._learner.step, "samples", self._grids.draw(self._learner))
        if self.has_scores() or self._models.is_due(self._learner.step):
            self._run.world.led(self._keep)

    def _keep(self) -> None:
        save_model(self._run.out, self._learner.step, self._learner.averaged_denoiser(), self._config.model_precision)
        if self.has_scores():
            mark_best(self._run.out)
