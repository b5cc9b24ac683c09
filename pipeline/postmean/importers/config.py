"""Settings of `postmean import`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from postmean.base.cores import usable_cores
from postmean.base.errors import ConfigError
from postmean.importers.layouts import KINDS

if TYPE_CHECKING:
    Kind = str
else:
    Kind = Literal[("auto", *KINDS)]
Split = Literal["train", "test", "val"]
Resize = Literal["none", "scale", "center-crop", "center-crop-wide", "center-crop-dhariwal", "celeba"]
Channels = Literal["as-is", "rgb", "grey"]
OnCorrupt = Literal["fail", "skip"]


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Source, destination and what to do to the pixels (nothing by default)."""

    source: Annotated[Positional[str | Path], arg(metavar="SOURCE")]
    """A folder, a file, an archive, which need not be unpacked, or a URL such as s3://, hf:// or https://.
    A quoted glob or brace list stands for several: 'shards/{000..127}.tar'."""
    store: Annotated[Positional[str | Path | None], arg(metavar="STORE")] = None
    """Image store to create: a new folder or s3:// URL."""
    list: bool = False
    """Say what the source is, and the command that reads it, instead of reading it."""
    kind: Kind = "auto"
    """Layout of the source; auto looks at its files."""
    split: Split = "train"
    """Part to read of a source with train, test or val parts."""
    label: str | None = None
    """Which label to keep where there are several: an attribute of CelebA, coarse of CIFAR-100, a column or a field."""
    resize: Resize = "none"
    """scale, center-crop, center-crop-wide: Lanczos, as in EDM and EDM2; center-crop-dhariwal: box halving then
    bicubic, as in EDM2 and ADM; celeba: the 128x128 around (89, 121), bilinear, as in DDIM."""
    resolution: Annotated[int | str | None, arg(metavar="N|WxH")] = None
    """Side in pixels after --resize, or WxH for scale and center-crop-wide."""
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
        width, height = self.size or (1, 1)
        if not (1 <= width <= 4096 and 1 <= height <= 4096):
            raise ConfigError(f"resolution: expected 1..4096 pixels, got {self.resolution}")
        if width != height and self.resize not in ("scale", "center-crop-wide"):
            raise ConfigError(f"resolution {self.resolution}: {self.resize} makes squares: give one number")
        if height > width and self.resize == "center-crop-wide":
            raise ConfigError(f"resolution {self.resolution}: center-crop-wide makes images no higher than wide")
        if self.workers < 1:
            raise ConfigError(f"workers: expected at least 1, got {self.workers}")
        if self.store is None and not self.list:
            raise ConfigError("no store: give the path of the image store to make, or --list to look at the source")

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height after --resize, None if there is none."""
        if self.resolution is None:
            return None
        parts = str(self.resolution).lower().split("x")
        if len(parts) > 2 or not all(part.isascii() and part.isdigit() and len(part) < 9 for part in parts):
            raise ConfigError(f"resolution {self.resolution}: expected pixels such as 64, or WxH such as 64x48")
        return int(parts[0]), int(parts[-1])
