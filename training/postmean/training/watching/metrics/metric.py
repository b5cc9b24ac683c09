"""The form of a metric: what some lines of metrics.jsonl say beside loss and speed.

A new metric is one file with a frozen dataclass of the form `Metric`. Add it to `metrics_of` so that flags can ask for
it; `train(..., metrics=...)` takes any. The command line imports this file, so there is no torch in it.
"""

from typing import TYPE_CHECKING, Any, Protocol

from postmean.base.checks import is_finite_positive
from postmean.base.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from postmean.contract.image_store import ImageStore
    from postmean.training.model.preconditioning import Denoiser

LINE = frozenset(
    {
        "step",
        "time",
        "kimg",
        "loss",
        "loss_by_sigma",
        "floor_by_sigma",
        "excess_by_sigma",
        "data_wait_share",
        "images_per_second",
        "lr",
        "gradient_norm",
        "ema_decay",
        "noise_stage",
        "peak_memory_bytes",
    }
)
"""What every line of metrics.jsonl may have, which is no name for a metric."""


class Metric(Protocol):
    """Something that is measured of the model every so many images."""

    @property
    def name(self) -> str:
        """Where lines of metrics.jsonl, TensorBoard and the page of the run have it."""
        ...

    @property
    def every_kimg(self) -> float:
        """Thousands of images between two measurements."""
        ...

    @property
    def images(self) -> int:
        """Samples that it is given, those of seed 0 from image 0 on; 0: none."""
        ...

    def measure(self, model: "Denoiser", images: "np.ndarray", store: "ImageStore") -> "float | dict[str, Any]":
        """A number, or a tree of numbers by name. Called in the leading process alone.

        Args:
            model: the denoiser with the averaged weights, in evaluation mode, on the device of the training.
            images: uint8 [images, C, H, W], drawn as `--sampling` says by all processes.
            store: the data set.
        """
        ...


def check_metrics(metrics: "tuple[Metric, ...]") -> None:
    """Raise ConfigError for what is no metric, and for names that a line has already."""
    for metric in metrics:
        parts = ("name", "every_kimg", "images", "measure")
        missing = [part for part in parts if not hasattr(metric, part)]
        if missing:
            raise ConfigError(f"metrics: {type(metric).__name__} has no {', '.join(missing)}: see Metric")
        if not is_finite_positive(metric.every_kimg) or metric.images < 0:
            raise ConfigError(
                f"metrics: {metric.name}: expected finite every_kimg > 0 and images >= 0, got {metric.every_kimg}, "
                f"{metric.images}"
            )
    names = [metric.name for metric in metrics]
    for name in names:
        if name in LINE or names.count(name) > 1:
            raise ConfigError(f"metrics: {name} is in the lines of metrics.jsonl already: give it another name")
