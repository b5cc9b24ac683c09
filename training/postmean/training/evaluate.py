"""Score images, from a folder or drawn from a checkpoint, against an image store."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from postmean.base.extras import check_installed
from postmean.base.paths import local_path
from postmean.base.progress import NoProgress, ShowProgress, shown
from postmean.contract.image_store import ImageStore
from postmean.training.distributed import World
from postmean.training.drawing import Drawing
from postmean.training.sample_config import DrawConfig, EvaluateConfig, ImagesConfig
from postmean.training.scores import ArrayImages, Images, Scores, score


def evaluate(config: EvaluateConfig, progress: bool | ShowProgress = True) -> Scores:
    """Scores of the images against the whole store; see `score`. Under torchrun each process draws a part of them.

    Args:
        progress: whether to show the images drawn, then the images read, those of the store included.
    Raises:
        DataError: no store, no images or no checkpoint there, or images of another shape than the store's.
        ConfigError: the weights of the feature extractor cannot be had, or the device is not there.
    """
    check_installed("evaluate", "torch_fidelity")  # before it draws
    with World.join(config.device) as world:
        return _evaluate(config, world, shown(progress) if world.leads else NoProgress)


def _evaluate(config: EvaluateConfig, world: World, progress: ShowProgress) -> Scores:
    store = ImageStore.open(config.store, progress)
    images = _images(config, world, progress)

    def measure() -> dict[str, Any]:
        with progress("evaluate", len(images) + len(store), "images") as line:
            scores = score(
                images,
                store,
                world.device,
                weights=_path(config.feature_extractor_weights),
                batch_size=config.batch_size,
                cache=_path(config.cache),
                progress=line.update,
            )
        return asdict(scores)

    return Scores(**world.led(measure))


def _path(path: Path | None) -> Path | None:
    return None if path is None else local_path(path)


def _images(config: EvaluateConfig, world: World, progress: ShowProgress) -> Images:
    """The images of the folder, or those that the checkpoint draws."""
    if config.images is not None:
        from postmean.training.images import ImageFolder  # here: it needs Pillow, which the extra brings

        return ImageFolder(config.images)
    assert config.checkpoint is not None  # as the config checked
    settings = {field.name: getattr(config, field.name) for field in fields(ImagesConfig)}
    drawing = Drawing.of(DrawConfig(checkpoint=config.checkpoint, count=config.count, **settings))
    with progress("sample", config.count, "images") as line:
        return ArrayImages([drawing.all_images(world, line.update)])
