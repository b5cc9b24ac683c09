"""The training loop: steps of a `Learner` on batches of targets, with lines of metrics and checkpoints."""

import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from postmean.base.extras import check_installed
from postmean.base.paths import out_folder
from postmean.base.progress import NoProgress, ShowProgress
from postmean.contract.image_store import ImageStore
from postmean.training.checkpoint import complete_checkpoints, find_checkpoint, step_of
from postmean.training.config import TrainConfig
from postmean.training.distributed import World
from postmean.training.learner import Learner
from postmean.training.model.losses import AnyLoss, Loss
from postmean.training.train_log import TrainLog
from postmean.training.training_run import TrainingRun


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """What a call of `train` did."""

    checkpoint: str
    step: int
    resumed_from: int
    """Step at which this call began."""
    images: int
    """Images seen over all calls."""
    loss: float | None
    """Mean loss in the last line of metrics.jsonl; None if nothing was left to do."""
    seconds: float
    images_per_second: float
    data_wait_share: float
    """Share of the time that training waited for targets."""


def train(  # noqa: PLR0913
    config: TrainConfig,
    targets: str | Path,
    store: str | Path,
    out: str | Path,
    device: str = "auto",
    init: str = "",
    follow_seconds: float = 0.0,
    loss: Loss | None = None,
    progress: ShowProgress = NoProgress,
) -> TrainReport:
    """Train, or resume the run in `out`; a finished run is left as it is.

    Args:
        targets: folder or URL of a run of `postmean generate`.
        store: the image store that it was generated from.
        init: checkpoint or run whose averaged weights to begin with; "" for random ones.
        follow_seconds: above 0, the targets may still be in the making: wait so long for each shard.
        loss: a loss of your own in place of the config's: a frozen dataclass of the form of `Loss`.
        progress: shows the images, on rank 0.
    Raises:
        MismatchError: targets, store, config and the run in `out` do not agree, or the ranks do not.
        TrainingError: the loss is not finite.
    """
    if loss is not None:
        config = replace(config, loss=cast(AnyLoss, loss))
    check_installed("train", "diffusers", "safetensors")  # before waiting for targets
    out = out_folder(out, "a training run")
    with World.join(device) as world:
        run = TrainingRun.open(config, str(targets), ImageStore.open(store), out, world, follow_seconds)
        start, last_loss = time.perf_counter(), None
        try:
            if run.first_step < config.steps:
                learner = Learner(run, init)
                run.begin(init)
                start = time.perf_counter()
                last_loss = _steps(run, learner, progress if world.leads else NoProgress)
        except BaseException:
            run.stream.close(failed=True)
            raise
        run.stream.close()
        world.wait()  # until rank 0 has written the last checkpoint
        return _report(run, last_loss, time.perf_counter() - start)


def _steps(run: TrainingRun, learner: Learner, progress: ShowProgress) -> float | None:
    """Steps up to config.steps; gives the mean loss of the last line."""
    config, leads = run.config, run.world.leads
    with progress("train", config.steps * config.batch_size, "images") as line:
        line.start_at(learner.images)
        log = TrainLog(run, line)
        # the iteration ends with the block: an exception keeps this frame, and an iterator in it, for long
        with closing(run.stream.batches(on_wait=lambda: log.show(learner))) as batches:
            for batch in batches:
                learner.learn(batch, log.sums)
                saves = learner.step % config.checkpoint_every == 0 or learner.step == config.steps
                if saves or learner.step % config.log_every == 0:
                    log.write_line(learner)
                log.show(learner)
                if leads and saves:
                    learner.save()
                    run.stream.never_before(step_of(complete_checkpoints(run.out)[0]) * config.batch_size)
        return log.loss


def _report(run: TrainingRun, loss: float | None, seconds: float) -> TrainReport:
    batch_size, images = run.config.batch_size, run.stream.next_tuple  # each tuple is an image
    return TrainReport(
        checkpoint=str(find_checkpoint(run.out)),
        step=images // batch_size,
        resumed_from=run.first_step,
        images=images,
        loss=loss,
        seconds=seconds,
        images_per_second=(images - run.first_step * batch_size) / seconds,
        data_wait_share=run.stream.wait_seconds / seconds,
    )
