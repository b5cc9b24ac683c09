"""The learner: network, average of its weights and optimiser, and one training step on them."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from postmean.base.errors import MismatchError
from postmean.training.checkpoint import (
    AveragedDenoiser,
    DenoiserCard,
    load_averages,
    load_state,
    read_card,
    save_checkpoint,
)
from postmean.training.config import TrainConfig
from postmean.training.economy import check_compiler, checkpoint_blocks, compiled, unscale
from postmean.training.label_dropout import drop_labels
from postmean.training.metrics import LossSums
from postmean.training.model.ema.averaged_network import Averages
from postmean.training.model.preconditioning import Denoiser
from postmean.training.network_files import load_weights
from postmean.training.snapshots import save_snapshot
from postmean.training.stream.batch import TargetBatch
from postmean.training.training_run import TrainingRun
from postmean.training.training_state import restore, training_tensors


class Learner:
    """Network, average and optimiser of a run, restored from its checkpoint if there is one.

    Raises:
        MismatchError: the weights to begin with are of another network or time conditioning.
        DataError: the checkpoint is damaged.
        ConfigError: torch.compile is asked for and does not work here.
    """

    def __init__(self, run: TrainingRun) -> None:
        config, device = run.config, run.world.device
        self.step = run.first_step
        """Steps done."""
        self._run, self._config = run, config
        self._norm: torch.Tensor | None = None
        torch.manual_seed(config.seed)
        network = config.network.build(run.store.image_shape, run.classes + (config.label_dropout > 0))
        if run.begun.init and not run.checkpoint:
            _begin_with(network, run.begun.init, config)
        self._denoiser = Denoiser(network, config.preconditioning, config.loss.learned()).to(device).train()
        if config.channels_last:
            network.to(memory_format=torch.channels_last)
        self._averages = Averages(self._denoiser.network, config.emas, config.loss.teacher(config.recipe.noise))
        self._optimiser = config.optimiser.make(self._denoiser.parameters())
        if run.checkpoint:
            _restore(self._denoiser, self._averages, self._optimiser, run.checkpoint, config)
        if config.gradient_checkpointing:
            checkpoint_blocks(self._denoiser.network)
        self._before_step = getattr(self._denoiser.network, "before_step", lambda: None)
        model, teacher = self._denoiser, self._with(self._averages.teacher or self._denoiser.network)
        if config.compile:
            check_compiler(device)
            model, teacher = compiled(model), compiled(teacher)
        self._model, self._teacher = run.world.wrap(model), teacher

    @property
    def images(self) -> int:
        """Images seen by all ranks."""
        return self.step * self._config.batch_size

    @property
    def rate(self) -> float:
        """Learning rate of the last step."""
        return self._optimiser.param_groups[0]["lr"]

    @property
    def ema_decay(self) -> float:
        """Decay of the average in the last step."""
        return self._config.ema.decay_at(self.images, self._config.batch_size)

    def gradient_norm(self) -> float:
        """Norm of the last step's gradient over all ranks, before it was clipped. This waits for the device."""
        norm = self._norm
        if norm is None:
            gradients = [weight.grad for weight in self._denoiser.parameters() if weight.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients)
        return float(norm)

    def learn(self, batch: TargetBatch, sums: LossSums) -> None:
        """Take one step on this rank's part of a batch; adds its losses to `sums`."""
        config, world = self._config, self._run.world
        batch = self._prepared(batch)
        # dropout of step k is a function of (seed, k, rank): checkpoints need no generator state
        torch.manual_seed(int(np.random.SeedSequence([config.seed, self.step, world.rank]).generate_state(1)[0]))
        self.step += 1
        for group in self._optimiser.param_groups:
            group["lr"] = config.optimiser.lr * config.schedule.factor(self.images)
        self._before_step()
        self._optimiser.zero_grad(set_to_none=True)
        self._add_gradients(batch, sums)
        if config.precision == "fp16":
            unscale(self._denoiser.parameters(), config.loss_scale)
        if config.optimiser.clip_norm is not None:
            self._norm = torch.nn.utils.clip_grad_norm_(self._denoiser.parameters(), config.optimiser.clip_norm)
        self._optimiser.step()
        self._averages.update(self._denoiser.network, self.images, config.batch_size)

    @torch.no_grad()
    def is_sound(self, batch: TargetBatch) -> bool:
        """Whether weights, average and optimiser state are finite, and both networks give finite losses on a batch.

        The loss of a step is that of the weights before it: it says nothing of what the step made of them.
        """
        config = self._config
        kept = [*self._denoiser.parameters(), *self._averages.parameters()]
        kept += [tensor for state in self._optimiser.state.values() for tensor in state.values()]
        if not torch.stack([tensor.isfinite().all().to(self._run.world.device) for tensor in kept]).all():
            return False
        part = self._prepared(batch).rows(0, config.micro_batch or len(batch))
        for denoiser in (self._denoiser, self._with(self._averages.main)):
            with self._precision():
                if not config.loss(denoiser, denoiser, part).isfinite().all():
                    return False
        return True

    def card(self) -> DenoiserCard:
        """How to use the network."""
        config, run = self._config, self._run
        return DenoiserCard(
            preconditioning=config.preconditioning,
            time_conditioning=config.preconditioning.time_conditioning,
            consistency=config.loss.is_consistency,
            process=config.recipe.process,
            image_shape=run.store.image_shape,
            classes=run.classes,
            has_null_class=config.label_dropout > 0,
            images_seen=self.images,
        )

    def averaged(self) -> Denoiser:
        """The denoiser with the averaged weights, in evaluation mode."""
        return Denoiser(self._averages.main, self._config.preconditioning).eval()

    def averaged_denoiser(self) -> AveragedDenoiser:
        """The network with the averaged weights, and how to build and use it."""
        return AveragedDenoiser(network=self._averages.main, settings=self._config.network, card=self.card())

    def save(self) -> None:
        """Write a checkpoint."""
        config, run = self._config, self._run
        tensors = training_tensors(self._denoiser, self._averages, self._optimiser)
        place = dict(step=self.step, next_tuple=self.images)
        save_checkpoint(run.out, self.averaged_denoiser(), tensors, place, config.keep_checkpoints)

    def save_snapshot(self) -> None:
        """Write a snapshot of the power-function averages."""
        averages = {ema: self._averages.network(ema) for ema in self._config.power_emas}
        save_snapshot(self._run.out, self.step, self.images, averages)

    def _with(self, network: torch.nn.Module) -> Denoiser:
        """A denoiser of other weights, with what the loss learns."""
        return Denoiser(network, self._config.preconditioning, self._denoiser.learned)

    def _prepared(self, batch: TargetBatch) -> TargetBatch:
        config = self._config
        if config.label_dropout:
            rate, classes = config.label_dropout, self._run.classes
            batch = drop_labels(batch, rate, classes, config.batch_size, config.seed, self.step)
        batch = batch.to(self._run.world.device)
        if not self._config.dial.is_mean:
            batch = replace(batch, mean=self._config.dial.target(batch))
        return batch if self._config.recipe.conditional else replace(batch, label=None)

    def _precision(self) -> torch.autocast:
        device = self._run.world.device.type
        half = torch.float16 if self._config.precision == "fp16" else torch.bfloat16
        return torch.autocast(device, half, enabled=self._config.precision != "fp32")

    def _add_gradients(self, batch: TargetBatch, sums: LossSums) -> None:
        """Add gradients of the mean loss, one micro-batch at a time; the last one averages them over the ranks."""
        config = self._config
        scale = config.loss_scale if config.precision == "fp16" else 1.0
        size = min(config.micro_batch or len(batch), len(batch))
        for first in range(0, len(batch), size):
            part = batch.rows(first, min(first + size, len(batch)))
            last = first + size >= len(batch)
            with nullcontext() if last else self._gradients_stay_here():
                with self._precision():
                    loss = config.loss(self._model, self._teacher, part)
                (loss.sum() / len(batch) * scale).backward()
            floor = config.loss.floor(self._denoiser, part)
            sums.add(loss, part.sigma, floor, held=(1 - config.dial.at(part.sigma)) ** 2 * floor)

    def _gradients_stay_here(self) -> AbstractContextManager[None]:
        return self._model.no_sync() if isinstance(self._model, DistributedDataParallel) else nullcontext()


def _restore(
    denoiser: Denoiser, averages: Averages, optimiser: torch.optim.Optimizer, checkpoint: Path, config: TrainConfig
) -> None:
    _check_time_conditioning(checkpoint, config)
    try:
        restore(denoiser, averages, optimiser, load_averages(checkpoint), load_state(checkpoint))
    except MismatchError as error:
        raise MismatchError(f"{checkpoint}: {error}") from error


def _check_time_conditioning(checkpoint: Path | str, config: TrainConfig) -> None:
    theirs, ours = read_card(checkpoint).time_conditioning, config.preconditioning.time_conditioning
    if theirs != ours:
        raise MismatchError(
            f"{checkpoint}: its time conditioning is {theirs}, this run's is {ours}: "
            "begin with a checkpoint of the same kind"
        )


def _begin_with(network: torch.nn.Module, init: str, config: TrainConfig) -> None:
    _check_time_conditioning(init, config)
    load_weights(network, load_averages(init), init)
