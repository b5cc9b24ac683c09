"""`train`: one call of a training run, from opening its inputs to its report."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from postmean.base.errors import ConfigError
from postmean.base.extras import check_installed
from postmean.base.paths import out_folder
from postmean.base.progress import NoProgress, ShowProgress, shown
from postmean.contract.image_store import ImageStore
from postmean.training.checkpoint import find_checkpoint
from postmean.training.distributed import World
from postmean.training.economy import tf32
from postmean.training.learner import Learner
from postmean.training.model.losses import Loss
from postmean.training.model.networks.own import settings_of
from postmean.training.optimiser import Optimiser
from postmean.training.out_lock import OutLock
from postmean.training.run_config import TrainRunConfig
from postmean.training.schedules import Schedule
from postmean.training.steps import Steps
from postmean.training.stop_signals import Interrupted, StopSignals, TrainingStopped
from postmean.training.training_run import Paths, TrainingRun
from postmean.training.watching.config import WatchConfig, watching
from postmean.training.watching.metrics import Metric, metrics_of
from postmean.training.watching.metrics.metric import check_metrics

if TYPE_CHECKING:
    from postmean.training.model.networks.own import NetworkLike


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


def train(
    config: TrainRunConfig,
    *,
    loss: Loss | None = None,
    network: "NetworkLike | None" = None,
    optimiser: Optimiser | None = None,
    schedule: Schedule | None = None,
    metrics: Sequence[Metric] = (),
    progress: bool | ShowProgress = True,
) -> TrainReport:
    """Train, or resume the run in `config.out`; a finished run is left as it is.

    SIGTERM, SIGUSR1 and SIGHUP save a checkpoint and end the training.

    Args:
        loss: a loss of your own in place of the config's: a frozen dataclass of the form of `Loss`.
        network: a network of your own in place of the config's, called as a `Network`: a torch module, which is then
            trained itself, or a function of (image_shape, classes) that makes one, or settings with a `build`.
        optimiser: the same, of the form of `Optimiser`.
        schedule: the same, of the form of `Schedule`.
        metrics: further lines' values in metrics.jsonl: objects of the form of `Metric`. They change no weight.
        progress: whether to show the images, on rank 0.
    Raises:
        ConfigError: `network` is none of these, a metric is none or takes a name, or a setting is out of range.
        MismatchError: targets, store, config and the run in `config.out` do not agree, the ranks do not, or another
            trainer is at work there.
        TrainingError: the loss or the weights are not finite.
        TrainingStopped: a signal ended the training; the same call goes on.
    """
    if config.dry_run:
        raise ConfigError("dry_run: train trains: call postmean.training.dry_run, or leave it out")
    config, paths = checked(config, loss, network, optimiser, schedule)
    measured = (*metrics_of(config), *metrics)
    check_metrics(measured)
    lock = OutLock(paths.out)
    try:
        with StopSignals() as signals, World.join(config.device, config.follow_seconds) as world:
            world.led(lock.take)
            show = shown(progress) if world.leads else NoProgress
            store = ImageStore.open(config.store, show)
            run = TrainingRun.open(config.training, paths, store, world, config.follow_seconds)
            with tf32(config.tf32):
                return _train(run, signals, watching(config), measured, show)
    except Interrupted as signal:
        raise TrainingStopped("", signal.number) from None
    finally:
        lock.release()


def checked(
    config: TrainRunConfig,
    loss: Loss | None,
    network: "NetworkLike | None",
    optimiser: Optimiser | None,
    schedule: Schedule | None,
) -> tuple[TrainRunConfig, Paths]:
    """The settings with those of the caller's own, and the paths; checked as far as they can be before waiting.

    Raises:
        ConfigError: see `train`; or a package is missing.
    """
    own: dict[str, Any] = {"loss": loss, "optimiser": optimiser, "schedule": schedule}
    own["network"] = None if network is None else settings_of(network)
    config = replace(config, **{name: part for name, part in own.items() if part is not None})
    if not config.follow_seconds >= 0:
        raise ConfigError(f"--follow-seconds: expected 0 or more, got {config.follow_seconds}")
    out = out_folder(config.out, "a training run")
    paths = Paths(targets=str(config.targets), out=out, init=config.init, start_from=config.start_from)
    check_installed("train", "diffusers", "safetensors", "tensorboardX")  # before waiting for targets
    if config.score_kimg:
        check_installed("evaluate", "torch_fidelity")
    if config.wandb:
        check_installed("wandb", "wandb")
    return config, paths


def _train(
    run: TrainingRun, signals: StopSignals, watch: WatchConfig, metrics: tuple[Metric, ...], progress: ShowProgress
) -> TrainReport:
    """Take the steps that are left, and report."""
    start, last_loss = time.perf_counter(), None
    try:
        if run.first_step < run.config.steps:
            learner = Learner(run)
            run.begin()
            start = time.perf_counter()
            last_loss = Steps(run, learner, signals, watch, metrics).take(progress)
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
