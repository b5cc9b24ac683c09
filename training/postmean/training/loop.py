"""`train`: one call of a training run, from opening its inputs to its report."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from postmean.base.errors import ConfigError
from postmean.base.extras import check_installed
from postmean.base.paths import out_folder
from postmean.base.progress import NoProgress, ShowProgress
from postmean.contract.image_store import ImageStore
from postmean.training.checkpoint import find_checkpoint
from postmean.training.config import TrainConfig
from postmean.training.distributed import World
from postmean.training.learner import Learner
from postmean.training.model.losses import AnyLoss, Loss
from postmean.training.out_lock import OutLock
from postmean.training.steps import Steps
from postmean.training.stop_signals import Interrupted, StopSignals, TrainingStopped
from postmean.training.training_run import Paths, TrainingRun


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
    start_from: str = "",
    follow_seconds: float = 0.0,
    loss: Loss | None = None,
    progress: ShowProgress = NoProgress,
) -> TrainReport:
    """Train, or resume the run in `out`; a finished run is left as it is.

    SIGTERM, SIGUSR1 and SIGHUP save a checkpoint and end the training.

    Args:
        targets: folder or URL of a run of `postmean generate`.
        store: the image store that it was generated from.
        init: checkpoint or run whose averaged weights to begin with; "" for random ones.
        start_from: RUN@STEP or a checkpoint's folder: a new run goes on from there with the settings of `config`; ""
            begins at tuple 0.
        follow_seconds: above 0, the targets may still be in the making: wait so long for each shard.
        loss: a loss of your own in place of the config's: a frozen dataclass of the form of `Loss`.
        progress: shows the images, on rank 0.
    Raises:
        MismatchError: targets, store, config and the run in `out` do not agree, the ranks do not, or another trainer is
            at work in `out`.
        TrainingError: the loss or the weights are not finite.
        TrainingStopped: a signal ended the training; the same call goes on.
    """
    if loss is not None:
        config = replace(config, loss=cast(AnyLoss, loss))
    if not follow_seconds >= 0:
        raise ConfigError(f"--follow-seconds: expected 0 or more, got {follow_seconds}")
    paths = Paths(targets=str(targets), out=out_folder(out, "a training run"), init=init, start_from=start_from)
    check_installed("train", "diffusers", "safetensors")  # before waiting for targets
    lock = OutLock(paths.out)
    try:
        with StopSignals() as signals, World.join(device, follow_seconds) as world:
            world.led(lock.take)
            run = TrainingRun.open(config, paths, ImageStore.open(store), world, follow_seconds)
            return _train(run, signals, progress if world.leads else NoProgress)
    except Interrupted as signal:
        raise TrainingStopped("", signal.number) from None
    finally:
        lock.release()


def _train(run: TrainingRun, signals: StopSignals, progress: ShowProgress) -> TrainReport:
    """Take the steps that are left, and report."""
    start, last_loss = time.perf_counter(), None
    try:
        if run.first_step < run.config.steps:
            learner = Learner(run)
            run.begin()
            start = time.perf_counter()
            last_loss = Steps(run, learner, signals).take(progress)
    except BaseException:
        run.stream.close(failed=True)
        raise
    run.stream.close()
    run.world.wait()
    return _report(run, last_loss, time.perf_counter() - start)


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
