"""The training loop: a batch of targets, a step of the optimiser, the average; now and then a line and a checkpoint."""

import math
import time
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from postmean.base.errors import ConfigError, MismatchError, PostmeanError
from postmean.base.extras import check_installed
from postmean.base.progress import Progress
from postmean.contract.image_store import ImageStore
from postmean.training.checkpoint import (
    DenoiserCard,
    complete_checkpoints,
    find_checkpoint,
    load_denoiser,
    load_state,
    remove_partial,
    save_checkpoint,
    step_of,
)
from postmean.training.config import OptimiserConfig, TrainConfig
from postmean.training.distributed import World
from postmean.training.metrics import LossSums, MetricsLog, by_sigma
from postmean.training.model.ema import AveragedNetwork
from postmean.training.model.networks import build_network
from postmean.training.model.preconditioning import Denoiser
from postmean.training.resume import check_same_run, identity_of, restore, trainer_name, training_tensors, write_config
from postmean.training.stream.batch import TargetBatch
from postmean.training.stream.stream import TargetStream

_SHARE_OUT = "--out must be one folder that all hosts share: every rank goes on from the checkpoints in it"


class TrainingError(PostmeanError):
    """Training cannot go on: its loss is not finite."""

    exit_code = 3


@dataclass(frozen=True, kw_only=True)
class TrainReport:
    """What a call of `train` did."""

    checkpoint: str
    step: int
    resumed_from: int
    """Step that this call began at."""
    images: int
    """Images seen in all."""
    loss: float | None
    """Mean of the last line of metrics.jsonl; None where nothing was left to do."""
    seconds: float
    images_per_second: float
    data_wait_share: float
    """Share of the time that training waited for targets."""


def train(
    config: TrainConfig,
    targets: str | Path,
    store: str | Path,
    out: str | Path,
    device: str = "auto",
    init: str = "",
    follow_seconds: float = 0.0,
) -> TrainReport:
    """Train, or go on with the run that is in `out`; a finished run is left as it is.

    Args:
        targets: folder or URL of a run of `postmean generate`.
        store: the image store that it was generated from.
        init: checkpoint or run whose averaged weights to begin with; "" for random ones.
        follow_seconds: above 0, the targets may still be in the making: wait so long for each shard.
    Raises:
        MismatchError: targets, store, config and what is in `out` do not agree, or the ranks do not.
        TrainingError: the loss is not finite.
    """
    check_installed("train", "diffusers", "safetensors")  # before it waits for targets
    with World.join(device) as world:
        return _Run(config, str(targets), ImageStore.open(store), Path(out), world, follow_seconds).train(init)


class _Run:
    """One call of `train`: what is open and how far it is."""

    def __init__(
        self, config: TrainConfig, targets: str, store: ImageStore, out: Path, world: World, follow_seconds: float
    ) -> None:
        if config.recipe.conditional and not store.classes:
            raise ConfigError(f"{store.path}: conditional training needs labels, the store has none")
        self.config, self.store, self.out, self.world = config, store, out, world
        checkpoints = complete_checkpoints(out)
        self.checkpoint = checkpoints[-1] if checkpoints else None
        self.step = step_of(self.checkpoint) if self.checkpoint else 0
        # first of all: a rank at a wrong step might find that the targets of this step were deleted
        world.check_same(str(out), _SHARE_OUT, step=self.step)
        self.name = trainer_name(out)
        self.stream = TargetStream.open(
            targets,
            store,
            config.batch_size,
            start_tuple=self.step * config.batch_size,
            rank=world.rank,
            world_size=world.size,
            recipe=config.recipe,
            steps=max(0, config.steps - self.step),
            pin=world.device.type == "cuda",
            follow_seconds=follow_seconds,
            trainer=self.name if world.leads else "",
        )
        self.stream.never_before(step_of(checkpoints[0]) * config.batch_size if checkpoints else 0)
        targets_are = identity_of(self.stream.manifest.to_dict())
        same = dict(batch_size=config.batch_size, batches=len(self.stream), targets=targets_are)
        world.check_same(targets, "start every rank with the same command and the same --targets", **same)
        check_same_run(out, config, self.stream.manifest)

    def prepare(self, init: str) -> None:
        """Build network, average and optimiser, as they were at the checkpoint where there is one."""
        config, device = self.config, self.world.device
        torch.manual_seed(config.seed)
        self.classes = self.store.classes if config.recipe.conditional else 0
        network = build_network(config.network, self.store.image_shape, self.classes)
        if init and not self.checkpoint:
            _begin_with(network, init, config)
        self.denoiser = Denoiser(network, config.preconditioning).to(device).train()
        self.average = AveragedNetwork(self.denoiser.network)
        self.optimiser = make_optimiser(config.optimiser, self.denoiser)
        if self.checkpoint:
            restore(self.denoiser.network, self.optimiser, load_state(self.checkpoint))
            self.average.network.load_state_dict(load_denoiser(self.checkpoint, device).network.state_dict())
        self.model = self.world.wrap(self.denoiser)
        self.world.wait()  # every rank has read what is there before rank 0 changes it
        if self.world.leads:
            remove_partial(self.out)
            paths = dict(targets=self.stream.where, store=str(self.store.path), init=init)
            write_config(self.out, config, self.stream.manifest, self.name, **paths)

    def train(self, init: str) -> TrainReport:
        """Steps up to config.steps."""
        config, begin, loss = self.config, self.step, None
        start = time.perf_counter()
        try:
            if begin < config.steps:
                self.prepare(init)
                start = time.perf_counter()
                loss = self._steps(start)
        except BaseException:
            self.stream.close(failed=True)
            raise
        self.stream.close()
        self.world.wait()  # the last checkpoint is written
        seconds = time.perf_counter() - start
        return TrainReport(
            checkpoint=str(find_checkpoint(self.out)),
            step=self.step,
            resumed_from=begin,
            images=self.step * config.batch_size,
            loss=loss,
            seconds=seconds,
            images_per_second=(self.step - begin) * config.batch_size / seconds,
            data_wait_share=self.stream.wait_seconds / seconds,
        )

    def _steps(self, start: float) -> float | None:
        config, leads, loss = self.config, self.world.leads, None
        log = MetricsLog(self.out / "metrics.jsonl", self.step) if leads else None
        sums, line_at, line_wait = LossSums(self.world.device), start, 0.0
        progress = Progress("train", config.steps * config.batch_size, "images")

        # the iteration ends with the block, not with this frame, which lives as long as an exception refers to it
        def show() -> None:
            if leads:
                shown = "" if loss is None else f"  loss {loss:.4g}"
                waits = self.stream.wait_seconds / (time.perf_counter() - start)
                note = f"step {self.step:,}{shown}  waits {waits:.0%} for targets"
                progress.update(self.step * config.batch_size, note)

        with progress if leads else nullcontext(), closing(self.stream.batches(show)) as batches:
            progress.start_at(self.step * config.batch_size)
            for batch in batches:
                self._one_step(batch, sums)
                saves = self.step % config.checkpoint_every == 0 or self.step == config.steps
                now, waited = time.perf_counter(), self.stream.wait_seconds
                if saves or self.step % config.log_every == 0:
                    totals = self.world.total(sums.take()).cpu()
                    images = float(totals[1].sum())
                    loss = float(totals[0].sum()) / images
                    if not math.isfinite(loss):
                        raise TrainingError(self._not_finite())
                    if log:
                        log.write(
                            step=self.step,
                            kimg=self.step * config.batch_size / 1000,
                            loss=loss,
                            loss_by_sigma=by_sigma(totals),
                            data_wait_share=(waited - line_wait) / (now - line_at),
                            images_per_second=images / (now - line_at),
                            lr=self.optimiser.param_groups[0]["lr"],
                        )
                    line_at, line_wait = now, waited
                show()
                if leads and saves:
                    self._save()
        return loss

    def _one_step(self, batch: TargetBatch, sums: LossSums) -> None:
        config, device = self.config, self.world.device
        batch = batch.to(device)
        if not config.recipe.conditional:
            batch = replace(batch, label=None)
        # dropout of step k is a function of (seed, k, rank): nothing random has to be kept to resume
        torch.manual_seed(int(np.random.SeedSequence([config.seed, self.step, self.world.rank]).generate_state(1)[0]))
        self.step += 1
        images = self.step * config.batch_size
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(config.optimiser, images)
        self.optimiser.zero_grad(set_to_none=True)
        size = min(config.micro_batch or len(batch), len(batch))
        for first in range(0, len(batch), size):
            part = batch.rows(first, min(first + size, len(batch)))
            last = first + size >= len(batch)
            with self._gradients_stay_here() if not last else nullcontext():
                with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                    loss = config.loss(self.model, self.denoiser, part)
                (loss.sum() / len(batch)).backward()
            sums.add(loss, part.sigma)
        if config.optimiser.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.denoiser.parameters(), config.optimiser.clip_norm)
        self.optimiser.step()
        self.average.update(self.denoiser.network, config.ema.decay_at(images, config.batch_size))

    def _gradients_stay_here(self):
        model = self.model
        return model.no_sync() if isinstance(model, torch.nn.parallel.DistributedDataParallel) else nullcontext()

    def _save(self) -> None:
        config = self.config
        card = DenoiserCard(
            preconditioning=config.preconditioning,
            time_conditioning=config.preconditioning.time_conditioning,
            consistency=config.loss.is_consistency,
            process=config.recipe.process,
            image_shape=self.store.image_shape,
            classes=self.classes,
            images_seen=self.step * config.batch_size,
        )
        tensors = training_tensors(self.denoiser.network, self.optimiser)
        place = dict(step=self.step, next_tuple=self.step * config.batch_size)
        save_checkpoint(self.out, self.average.network, card, tensors, place, config.keep_checkpoints)
        self.stream.never_before(step_of(complete_checkpoints(self.out)[0]) * config.batch_size)

    def _not_finite(self) -> str:
        whole = complete_checkpoints(self.out)
        return (
            f"the loss is not finite at step {self.step}: the last good weights are "
            f"{whole[-1] if whole else 'none, no checkpoint was reached'}: lower --optimiser.lr, "
            "or pass --optimiser.clip-norm or --precision fp32, with another --out"
        )


def make_optimiser(config: OptimiserConfig, module: torch.nn.Module) -> torch.optim.Optimizer:
    """Adam or RAdam over all parameters."""
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.RAdam
    return kind(module.parameters(), lr=config.lr, betas=(config.beta1, config.beta2))


def learning_rate(config: OptimiserConfig, images: int) -> float:
    """Rate of the step that takes the run to `images` images."""
    return config.lr * min(1.0, images / (config.warmup_kimg * 1000)) if config.warmup_kimg else config.lr


def _begin_with(network: torch.nn.Module, init: str, config: TrainConfig) -> None:
    denoiser = load_denoiser(init)
    if denoiser.preconditioning.time_conditioning != config.preconditioning.time_conditioning:
        raise MismatchError(
            f"{init}: its time conditioning is {denoiser.preconditioning.time_conditioning}, this run's is "
            f"{config.preconditioning.time_conditioning}: initialise from a checkpoint of the same kind"
        )
    try:
        network.load_state_dict(denoiser.network.state_dict())
    except RuntimeError as error:
        raise MismatchError(f"{init}: another network ({str(error).splitlines()[0]}): pass its --network.*") from error
