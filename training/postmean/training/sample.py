"""Draw images from a checkpoint into a folder."""

import time
from dataclasses import dataclass

import numpy as np

from postmean.base.files import write_file
from postmean.base.json_files import to_json
from postmean.base.paths import out_folder
from postmean.base.progress import ShowProgress, shown
from postmean.training.drawing import Drawing
from postmean.training.images import GRID, RECORD, begin_folder, write_grid, write_images
from postmean.training.model.sampling import ConsistencySampler, SamplerName
from postmean.training.sample_config import SampleConfig

_SHOWN = 64
"""Images in the grid, eight per row."""


@dataclass(frozen=True, kw_only=True)
class SampleReport:
    """What was drawn."""

    checkpoint: str
    out: str
    count: int
    seed: int
    sampler: SamplerName
    steps: int
    """Evaluations for a consistency model, steps of two evaluations for heun."""
    sigmas: list[float] | None
    """Levels of a consistency model."""
    labels: list[int] | None
    seconds: float
    images_per_second: float


def sample(config: SampleConfig, progress: bool | ShowProgress = True) -> SampleReport:
    """Draw the images and write them, grid.png and samples.json, which is the report, into the folder.

    Args:
        progress: whether to show the images.
    Raises:
        DataError: there is no checkpoint, or the folder holds other images.
        ConfigError: sampler or label do not fit the checkpoint, or this machine lacks the device.
    """
    out = out_folder(config.out, "samples of a model")
    drawing = Drawing.of(config)
    start = time.perf_counter()
    batches = drawing.batches()
    begin_folder(out)
    (out / RECORD).write_text("{}\n")  # marks the folder as ours
    first: list[np.ndarray] = []
    written = 0
    with shown(progress)("sample", config.count, "images") as line:
        for pixels in batches:
            if written < _SHOWN:
                first.append(pixels)
            written = write_images(out, pixels, written)
            line.update(written)
    write_grid(out / GRID, np.concatenate(first)[:_SHOWN], columns=min(8, config.count))
    seconds = time.perf_counter() - start
    report = SampleReport(
        checkpoint=str(drawing.checkpoint),
        out=str(out),
        count=config.count,
        seed=config.seed,
        sampler=drawing.sampler.name,
        steps=drawing.sampler.steps,
        sigmas=list(drawing.sampler.sigmas) if isinstance(drawing.sampler, ConsistencySampler) else None,
        labels=None if drawing.labels is None else drawing.labels.tolist(),
        seconds=seconds,
        images_per_second=config.count / seconds,
    )
    write_file(out / RECORD, to_json(report))
    return report
