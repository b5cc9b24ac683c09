"""Draw images from a checkpoint into a folder."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from postmean.base.files import write_file
from postmean.base.json_files import to_json
from postmean.base.paths import out_folder
from postmean.base.progress import NoProgress, ShowProgress, shown
from postmean.training.distributed import World
from postmean.training.drawing import Drawing
from postmean.training.images import GRID, RECORD, ImageFolder, begin_folder, write_grid, write_images
from postmean.training.model.sampling import HeunSampler, SamplerName
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
    """Steps: of two evaluations for heun, of one for the others."""
    sigmas: list[float] | None
    """Levels of the steps; null for heun."""
    labels: list[int] | None
    seconds: float
    images_per_second: float


def sample(config: SampleConfig, progress: bool | ShowProgress = True) -> SampleReport:
    """Draw the images and write them, grid.png and samples.json, which is the report, into the folder.

    Under torchrun each process draws a part of them; the images are the same, but for roundings.

    Args:
        progress: whether to show the images.
    Raises:
        DataError: there is no checkpoint, or the folder holds other images.
        ConfigError: sampler or label do not fit the checkpoint, or this machine lacks the device.
    """
    out = out_folder(config.out, "samples of a model")
    with World.join(config.device) as world:
        return _sample(config, out, world, shown(progress) if world.leads else NoProgress)


def _sample(config: SampleConfig, out: Path, world: World, progress: ShowProgress) -> SampleReport:
    drawing = Drawing.of(config)
    start = time.perf_counter()
    batches = drawing.batches(world)
    world.led(lambda: _begin(out))
    with progress("sample", config.count, "images") as line:
        for numbers, pixels in batches:
            write_images(out, pixels, numbers)
            line.update(min(config.count, numbers[-1] + world.size))
    world.wait()
    if world.leads:
        images = ImageFolder(out)
        first = np.stack([images[number] for number in range(min(_SHOWN, config.count))])
        write_grid(out / GRID, first, columns=min(8, config.count))
    seconds = time.perf_counter() - start
    report = SampleReport(
        checkpoint=str(drawing.checkpoint),
        out=str(out),
        count=config.count,
        seed=config.seed,
        sampler=drawing.sampler.name,
        steps=drawing.sampler.steps,
        sigmas=None if isinstance(drawing.sampler, HeunSampler) else list(drawing.sampler.sigmas),
        labels=None if drawing.labels is None else drawing.labels.tolist(),
        seconds=seconds,
        images_per_second=config.count / seconds,
    )
    if world.leads:
        write_file(out / RECORD, to_json(report))
    return report


def _begin(out: Path) -> None:
    begin_folder(out)
    (out / RECORD).write_text("{}\n")  # marks the folder as ours
