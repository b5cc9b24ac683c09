"""What happens beside the steps of a training: grids of samples."""

from postmean.training.learner import Learner
from postmean.training.training_run import TrainingRun
from postmean.training.watching.config import WatchConfig
from postmean.training.watching.grids import Grids
from postmean.training.watching.outlets import Outlets


class Watcher:
    """Looks at the model after each step, where something is due.

    Raises:
        ConfigError: the settings of the sampler do not suit the model.
    """

    def __init__(self, run: TrainingRun, config: WatchConfig, learner: Learner, outlets: Outlets) -> None:
        self._leads, self._outlets = run.world.leads, outlets
        self._grids = Grids(run, config, learner)

    def look(self, learner: Learner) -> None:
        """Do what is due at the step just done."""
        if self._leads and self._grids.is_due(learner.step):
            self._outlets.picture(learner.step, "samples", self._grids.draw(learner))
