"""Settings of `postmean import`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from postmean.base.cores import usable_cores
from postmean.base.errors import ConfigError

Kind = Literal["auto", "folders", "cifar", "edm", "webdataset", "celeba", "tiny-imagenet"]
Split = Literal["train", "test", "val"]
Resize = Literal["none", "center-crop", "center-crop-dhariwal"]
Channels = Literal["as-is", "rgb", "grey"]
OnCorrupt = Literal["fail", "skip"]


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Source, destination and what to do to the pixels (nothing by default)."""

    source: Positional[Path]
    """A folder, or a .tar, .tar.gz, .tar.xz, .tar.bz2 or .zip archive, which need not be unpacked."""
    store: Positional[Path]
    """Image store to create; the path must not exist yet."""
    kind: Kind = "auto"
    """Layout of the source: folders (CLASS/*.png or jpg), cifar (CIFAR-10 python batches), edm (EDM zip; without a
    dataset.json the images have no labels), webdataset (KEY.jpg with KEY.cls or KEY.json), celeba, tiny-imagenet."""
    split: Split = "train"
    """Part to read of a source with train, test or val folders or batches."""
    resize: Resize = "none"
    """center-crop: Lanczos, as in EDM; center-crop-dhariwal: box halving then bicubic, as in EDM2 and ADM."""
    resolution: int | None = None
    """Side in pixels after --resize."""
    channels: Channels = "as-is"
    """rgb or grey converts all other images; as-is accepts only 8-bit images, all RGB or all grey."""
    on_corrupt: OnCorrupt = "fail"
    """What to do with an image that cannot be decoded; the store's header counts skipped ones."""
    workers: int = field(default_factory=usable_cores)
    """Most decoding processes to use; the store does not depend on it."""

    def __post_init__(self) -> None:
        if (self.resize == "none") != (self.resolution is None):
            raise ConfigError(
                f"resize {self.resize} with resolution {self.resolution}: give both, "
                "such as --resize center-crop --resolution 64, or neither"
            )
        if self.resolution is not None and not 1 <= self.resolution <= 4096:
            raise ConfigError(f"resolution: expected 1..4096 pixels, got {self.resolution}")
        if self.workers < 1:
            raise ConfigError(f"workers: expected at least 1, got {self.workers}")
