"""The log of a training run: a progress line and lines of metrics, both on rank 0."""

import math
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch

from postmean.base.errors import PostmeanError
from postmean.base.progress import Progress
from postmean.training.checkpoint import complete_checkpoints, step_of
from postmean.training.learner import Learner
from postmean.training.metrics import LossSums, by_sigma, peak_memory
from postmean.training.training_run import TrainingRun
from postmean.training.watching.outlets import Outlets


class TrainingError(PostmeanError):
    """Training cannot continue: the loss or the weights are not finite."""

    exit_code = 3


class TrainLog:
    """Collects the losses of all ranks between two lines.

    Args:
        progress: what is shown.
        outlets: where the lines go.
    """

    def __init__(self, run: TrainingRun, progress: Progress, outlets: Outlets) -> None:
        self.sums = LossSums(run.world.device)
        """Losses of this rank since the last line."""
        self.loss: float | None = None
        """Mean loss of the last line; None before the first."""
        self._run, self._progress, self._outlets = run, progress, outlets
        self._start = self._line_at = time.perf_counter()
        self._line_wait = run.stream.wait_seconds

    def show(self, learner: Learner) -> None:
        """Bring the progress line up to date."""
        loss = "" if self.loss is None else f"  loss {self.loss:.4g}"
        waits = self._run.stream.wait_seconds / (time.perf_counter() - self._start)
        self._progress.update(learner.images, f"step {learner.step:,}{loss}  waits {waits:.0%} for targets")

    def write_line(self, learner: Learner, more: dict[str, Any] | None = None) -> None:
        """Write a line about the steps since the last line. Every rank calls this at the same step.

        Args:
            more: what the line also says.
        Raises:
            TrainingError: the mean loss is not finite; nothing is written.
        """
        now, waited = time.perf_counter(), self._run.stream.wait_seconds
        totals = self._run.world.total(self.sums.take()).cpu()
        images = float(totals[1].sum())
        self.loss = float(totals[0].sum()) / images
        if not math.isfinite(self.loss):
            raise self.not_finite(f"the loss is not finite at step {learner.step}")
        values = dict(
            kimg=learner.images / 1000,
            loss=self.loss,
            loss_by_sigma=by_sigma(totals),
            **(self._floors(totals) if self._run.config.loss.has_floor else {}),
            data_wait_share=(waited - self._line_wait) / (now - self._line_at),
            images_per_second=images / (now - self._line_at),
            lr=learner.rate,
            gradient_norm=learner.gradient_norm(),
            ema_decay=learner.ema_decay,
            noise_stage=self._run.config.recipe.noise.stage_at(learner.images - 1),
            peak_memory_bytes=peak_memory(self._run.world.device),
            **(more or {}),
        )
        self._outlets.write(learner.step, values)
        self._line_at, self._line_wait = now, waited

    @staticmethod
    def _floors(totals: torch.Tensor) -> dict[str, dict[str, float]]:
        return {"floor_by_sigma": by_sigma(totals, 2), "excess_by_sigma": by_sigma(totals, 3)}

    @contextmanager
    def aside(self) -> Generator[None]:
        """Work within this block is not counted as time of the training."""
        began = time.perf_counter()
        yield
        self._line_at += time.perf_counter() - began

    def not_finite(self, what: str) -> TrainingError:
        """The error that says how to go on after `what` happened."""
        out = self._run.out
        whole = complete_checkpoints(out)
        origin = f"{out}@{step_of(whole[-1])}" if whole else self._run.origin
        good = f"those of {whole[-1]}" if whole else origin or "none, no checkpoint was reached"
        remedy = "a lower --optimiser.lr, --optimiser.clip-norm or --precision fp32"
        again = f"go on with --from {origin}, another --out, and" if origin else "begin again with another --out and"
        return TrainingError(f"{what}: the last good weights are {good}: {again} {remedy}")
