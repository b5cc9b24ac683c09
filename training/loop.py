"""The training loop: one batch of targets, one step of the optimiser, the average, now and then a line and a checkpoint."""

import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pipeline.contract.errors import ConfigError, MismatchError, PostmeanError
from pipeline.contract.image_store import ImageStore
from pipeline.contract.progress import Progress
from training.checkpoint import (
    DenoiserCard,
    TrainState,
    complete_checkpoints,
    find_checkpoint,
    load_denoiser,
    load_state,
    remove_partial,
    save_checkpoint,
)
from training.config import EDMLoss, OptimiserConfig, TrainConfig
from training.distributed import World
from training.ema import AveragedNetwork
from training.losses import loss_of
from training.metrics import LossSums, MetricsLog, by_sigma
from training.networks import build_network
from training.preconditioning import Denoiser
from training.resume import check_same_run, restore, training_tensors, write_config
from training.stream import TargetBatch, TargetStream


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
    config: TrainConfig, targets: str | Path, store: str | Path, out: str | Path, device: str = "auto", init: str = ""
) -> TrainReport:
    """Train, or go on with the run that is in `out`; a finished run is left as it is.

    Args:
        targets: folder or URL of a run of `postmean generate`.
        store: the image store that it was generated from.
        init: checkpoint or run whose averaged weights to begin with; "" for random ones.
    Raises:
        MismatchError: targets, store, config and what is in `out` do not agree.
        TrainingError: the loss is not finite.
    """
    world = World.join(device)
    try:
        return _Run(config, str(targets), ImageStore.open(store), Path(out), world, init).train()
    finally:
        world.leave()


class _Run:
    def __init__(
        self, config: TrainConfig, targets: str, store: ImageStore, out: Path, world: World, init: str
    ) -> None:
        self.config, self.store, self.out, self.world = config, store, out, world
        if config.conditional and not store.classes:
            raise ConfigError(f"{store.path}: conditional training needs labels, the store has none")
        checkpoints = complete_checkpoints(out)
        state = load_state(checkpoints[-1]) if checkpoints else None
        self.step = state.step if state else 0
        self.stream = TargetStream.open(
            targets,
            store,
            config.batch_size,
            start_tuple=state.next_tuple if state else 0,
            rank=world.rank,
            world_size=world.size,
            settings=config.target_settings,
            steps=max(0, config.steps - self.step),
            pin=world.device.type == "cuda",
        )
        check_same_run(out, config, self.stream.manifest)
        torch.manual_seed(config.seed)
        self.classes = store.classes if config.conditional else 0
        network = build_network(config.network, store.image_shape, self.classes)
        if init and not state:
            _begin_with(network, init, config)
        self.denoiser = Denoiser(network, config.preconditioning).to(world.device).train()
        self.average = AveragedNetwork(self.denoiser.network)
        self.optimiser = make_optimiser(config.optimiser, self.denoiser)
        if state:
            restore(self.denoiser.network, self.optimiser, state.tensors)
            averaged = load_denoiser(checkpoints[-1], world.device).network
            self.average.network.load_state_dict(averaged.state_dict())
        self.model = world.wrap(self.denoiser)
        world.wait()  # every rank has read what is there before rank 0 changes it
        if world.leads:
            remove_partial(out)
            write_config(out, config, self.stream.manifest, targets=targets, store=str(store.path), init=init)

    def train(self) -> TrainReport:
        """Steps up to config.steps."""
        config, begin = self.config, self.step
        start, loss = time.perf_counter(), None
        log = MetricsLog(self.out / "metrics.jsonl", begin) if self.world.leads else None
        sums = LossSums(self.world.device)
        line_at, line_wait = start, 0.0
        progress = Progress("train", config.steps * config.batch_size, "images")
        with progress if self.world.leads else nullcontext():
            progress.start_at(begin * config.batch_size)
            for batch in self.stream:
                self._one_step(batch, sums)
                saves = self.step % config.checkpoint_every == 0 or self.step == config.steps
                if saves or self.step % config.log_every == 0:
                    now, waited = time.perf_counter(), self.stream.wait_seconds
                    totals = self.world.total(sums.take()).cpu()
                    loss = float(totals[0].sum() / totals[1].sum())
                    if not np.isfinite(loss):
                        raise TrainingError(self._not_finite())
                    if log:
                        log.write(
                            step=self.step,
                            kimg=self.step * config.batch_size / 1000,
                            loss=loss,
                            loss_by_sigma=by_sigma(totals),
                            data_wait_share=(waited - line_wait) / (now - line_at),
                            images_per_second=float(totals[1].sum()) / (now - line_at),
                            lr=self.optimiser.param_groups[0]["lr"],
                        )
                    line_at, line_wait = now, waited
                if self.world.leads:
                    wait = self.stream.wait_seconds / (time.perf_counter() - start)
                    note = f"step {self.step:,}" + (f"  loss {loss:.4g}" if loss is not None else "")
                    progress.update(self.step * config.batch_size, f"{note}  waits {wait:.0%} for data")
                if saves and self.world.leads:
                    self._save()
        self.stream.close()
        self.world.wait()
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

    def _one_step(self, batch: TargetBatch, sums: LossSums) -> None:
        config, device = self.config, self.world.device
        batch = batch.to(device)
        if not config.conditional:
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
                    loss = loss_of(config.loss, self.model, self.denoiser, part)
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
            consistency=not isinstance(config.loss, EDMLoss),
            process=config.process,
            image_shape=self.store.image_shape,
            classes=self.classes,
            images_seen=self.step * config.batch_size,
        )
        tensors = training_tensors(self.denoiser.network, self.optimiser)
        state = TrainState(self.step, self.step * config.batch_size, tensors)
        save_checkpoint(self.out, self.average.network, card, state, config.keep_checkpoints)

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
