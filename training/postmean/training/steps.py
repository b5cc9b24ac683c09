"""The training loop: steps of a `Learner` on batches of targets, with lines of metrics and checkpoints."""

from contextlib import closing

from postmean.base.progress import ShowProgress
from postmean.training.checkpoint import complete_checkpoints, step_of
from postmean.training.learner import Learner
from postmean.training.stop_signals import Interrupted, StopSignals, TrainingStopped
from postmean.training.stream.batch import TargetBatch
from postmean.training.train_log import TrainLog
from postmean.training.training_run import TrainingRun
from postmean.training.watching.config import WatchConfig
from postmean.training.watching.metrics import Metric
from postmean.training.watching.outlets import Outlets
from postmean.training.watching.watcher import Watcher


class Steps:
    """The steps that a run has left.

    Before each step the ranks agree that all have their targets, and whether one of them was told to stop. So they stop
    at one step, and no rank waits for the targets of another one inside a sum of gradients.
    """

    def __init__(
        self,
        run: TrainingRun,
        learner: Learner,
        signals: StopSignals,
        watch: WatchConfig,
        metrics: tuple[Metric, ...],
    ) -> None:
        self._run, self._learner, self._signals, self._watch, self._metrics = run, learner, signals, watch, metrics
        self._saved = learner.step

    def take(self, progress: ShowProgress) -> float | None:
        """Take the steps; gives the mean loss of the last line.

        Raises:
            TrainingError: the loss or the weights are not finite.
            TrainingStopped: a signal ended the training, after a checkpoint.
        """
        config, learner = self._run.config, self._learner
        with (
            closing(Outlets(self._run, self._watch)) as outlets,
            progress("train", config.steps * config.batch_size, "images") as line,
        ):
            line.start_at(learner.images)
            log = TrainLog(self._run, line, outlets)
            watch = Watcher(self._run, self._watch, learner, outlets, self._metrics)

            def on_wait() -> None:
                log.show(learner)
                self._all_ready(here=False)

            batch: TargetBatch | None = None
            try:
                # the iteration ends with the block: an exception keeps this frame, and an iterator in it, for long
                with self._signals.deferred(), closing(self._run.stream.batches(on_wait)) as batches:
                    for coming in batches:
                        while not self._all_ready(here=True):
                            pass
                        batch = coming
                        self._step(batch, log, watch)
            except Interrupted as signal:
                self._stop(batch, log, signal.number)
            return log.loss

    def _all_ready(self, here: bool) -> bool:
        """Whether all ranks have their targets; raises Interrupted in all where one has a signal."""
        some_wait, number = self._run.world.agree(not here, self._signals.received)
        if number:
            raise Interrupted(number)
        return not some_wait

    def _step(self, batch: TargetBatch, log: TrainLog, watch: Watcher) -> None:
        config, learner = self._run.config, self._learner
        learner.learn(batch, log.sums)
        saves = learner.step % config.checkpoint_every == 0 or learner.step == config.steps
        with log.aside():
            more = watch.measure()
        if saves or more or learner.step % config.log_every == 0:
            log.write_line(learner, more)
        log.show(learner)
        if config.snapshot_every and (learner.step % config.snapshot_every == 0 or learner.step == config.steps):
            self._run.world.led(learner.save_snapshot)
        with log.aside():
            watch.look()
        if saves:
            self._save(batch, log)

    def _save(self, batch: TargetBatch, log: TrainLog) -> None:
        """Write a checkpoint of weights that pass on the last batch."""
        run, learner = self._run, self._learner
        if run.world.agree(not learner.is_sound(batch))[0]:
            raise log.not_finite(f"the weights of step {learner.step} give no finite loss")
        run.world.led(learner.save)
        self._saved = learner.step
        run.stream.never_before(step_of(complete_checkpoints(run.out)[0]) * run.config.batch_size)

    def _stop(self, batch: TargetBatch | None, log: TrainLog, number: int) -> None:
        """Save what no checkpoint has yet, and end."""
        learner = self._learner
        if batch is not None and learner.step > self._saved:
            if learner.step % self._run.config.log_every:
                log.write_line(learner)
            self._save(batch, log)
        checkpoints = complete_checkpoints(self._run.out)
        kept = f"saved as {checkpoints[-1]}" if checkpoints else "nothing to save yet"
        raise TrainingStopped(f" at step {learner.step:,}, {kept}", number) from None
