"""Where the metrics of a run go: metrics.jsonl, TensorBoard, and Weights & Biases if asked for."""

import secrets
import time
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from postmean.base.extras import needs
from postmean.base.serialise import to_dict
from postmean.training.metrics import MetricsLog
from postmean.training.training_run import TrainingRun
from postmean.training.watching.config import WatchConfig

TENSORBOARD = "tensorboard"
"""Folder of the event files in a training run."""


class Outlet(Protocol):
    """Something that takes a line of metrics at a time."""

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Take what a step measured: numbers, and trees of them by name."""
        ...

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Take a picture, uint8 [C, H, W] with 1 or 3 channels."""
        ...

    def close(self) -> None:
        """Finish what is under way."""
        ...


class JSONLines:
    """Lines of metrics.jsonl."""

    def __init__(self, run: TrainingRun) -> None:
        self._log = MetricsLog(run.out / "metrics.jsonl", run.first_step)

    def write(self, step: int, values: dict[str, Any]) -> None:
        self._log.write(step=step, **values)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        pass  # it is a file already

    def close(self) -> None:
        pass  # each line was closed


class TensorBoard:
    """Event files in OUT/tensorboard. A resumed run hides the points after its checkpoint.

    By tensorboardX, which writes the files alone (350 KB, no further package than protobuf); to look at them needs the
    package tensorboard, where the person looks.
    """

    def __init__(self, run: TrainingRun) -> None:
        with needs("train"):
            from tensorboardX import SummaryWriter

        begin = run.first_step
        # by default the name is the second alone, and a file of this name is written over
        self._writer = SummaryWriter(
            str(run.out / TENSORBOARD), purge_step=begin + 1, filename_suffix=f".{begin}-{secrets.token_hex(4)}"
        )

    def write(self, step: int, values: dict[str, Any]) -> None:
        for name, value in scalars(values):
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        self._writer.add_image(name, pixels, step)

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of a project of Weights & Biases; the same training goes on in the same run."""

    def __init__(self, run: TrainingRun, project: str) -> None:
        with needs("wandb"):
            import wandb  # type: ignore[import-not-found]  # an extra that no other one installs

        settings = to_dict(run.config)
        self._run = wandb.init(
            project=project, id=run.trainer, name=run.out.name, resume="allow", config=settings, dir=str(run.out)
        )
        self._run.define_metric("*", step_metric="step")  # its own step may not go back, as a resumed training does

    def write(self, step: int, values: dict[str, Any]) -> None:
        self._run.log({"step": step} | dict(scalars(values)))

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        import wandb  # type: ignore[import-not-found]

        self._run.log({"step": step, name: wandb.Image(pixels.transpose(1, 2, 0))})

    def close(self) -> None:
        self._run.finish()


class Outlets:
    """All outlets of a run as one; they are open in the leading process alone."""

    def __init__(self, run: TrainingRun, config: WatchConfig) -> None:
        self._all: list[Outlet] = []
        if run.world.leads:
            self._all += [JSONLines(run), TensorBoard(run)]
            self._all += [WeightsAndBiases(run, config.wandb)] if config.wandb else []

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Take a line, with the time of now."""
        values = {"time": round(time.time(), 3)} | values
        for outlet in self._all:
            outlet.write(step, values)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Take a picture, uint8 [C, H, W] with 1 or 3 channels."""
        for outlet in self._all:
            outlet.picture(step, name, pixels)

    def close(self) -> None:
        """Finish what is under way."""
        for outlet in self._all:
            outlet.close()


def scalars(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a tree by their path, such as loss_by_sigma/1..4."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from scalars(value, f"{above}{name}/")
        elif isinstance(value, int | float) and name != "time":
            yield f"{above}{name}", float(value)
