"""Scoring the images of a folder, or of a checkpoint, against an image store."""

from collections.abc import Callable

from postmean.contract.image_store import ImageStore
from postmean.training.distributed import device_of
from postmean.training.drawing import Drawing
from postmean.training.images import ImageFolder
from postmean.training.sample_config import DrawConfig, EvaluateConfig
from postmean.training.scores import ArrayImages, Images, Scores, score


def images_of(config: EvaluateConfig, progress: Callable[[int], None] = lambda done: None) -> Images:
    """The images of the folder, or those that the checkpoint draws.

    Args:
        progress: called with the number of images drawn so far.
    Raises:
        DataError: no images or no checkpoint there.
    """
    if config.images is not None:
        return ImageFolder(config.images)
    assert config.checkpoint is not None
    draw = DrawConfig(
        checkpoint=config.checkpoint,
        count=config.count,
        seed=config.seed,
        steps=config.steps,
        batch_size=config.batch_size,
        device=config.device,
    )
    drawn = []
    for batch in Drawing.of(draw).batches():
        drawn.append(batch)
        progress(sum(map(len, drawn)))
    return ArrayImages(drawn)


def evaluate(
    config: EvaluateConfig, images: Images, store: ImageStore, progress: Callable[[int], None] = lambda done: None
) -> Scores:
    """FID and Inception Score of the images with the settings of the config; see `score`."""
    return score(
        images,
        store,
        device_of(config.device),
        weights=config.feature_extractor_weights,
        batch_size=config.batch_size,
        cache=config.cache,
        progress=progress,
    )
