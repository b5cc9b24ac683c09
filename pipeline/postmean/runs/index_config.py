"""The settings of `postmean index`, in a file that does not import torch."""

from dataclasses import dataclass
from typing import Literal

from postmean.base.checks import check_at_least, check_at_least_one, check_tolerance
from postmean.base.places import PositionalStore
from postmean.fleet.settings import FleetSettings


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """What to build beside a store, and with what."""

    store: PositionalStore
    """Image store made by `postmean import`: its folder, or its URL such as s3://bucket/photos.store."""
    index: str = "exact"
    """exact needs no index of its own; flat, sq8, ivf<lists>-flat, ivf<lists>-sq8 build one with FAISS."""
    flips: bool = False
    """Treat horizontally flipped images as data too."""
    conditional: bool = False
    """Take each posterior over the images of one class."""
    nearest: int = 64
    """Neighbours per image kept by the self-join."""
    tolerance: float = 1e-6
    """Mean squared error per dimension for the certified sigmas in the report (generate has its own)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the self-join is computed and the index will be searched; auto uses GPUs if this machine has one, or the
    cluster at RAY_ADDRESS."""
    threads: int | None = None
    """CPU threads: of this process, by default all cores that it may use; of each actor of a fleet, by default 1."""
    block_images: int | None = None
    """Images of a block: a unit of work multiplies two blocks and takes 8 kB of memory an image. Default 16 384, above
    262 144 images 32 768. The index does not depend on it."""
    fleet: FleetSettings = FleetSettings()

    def __post_init__(self) -> None:
        check_at_least_one(self, ("nearest", "threads"))
        check_at_least(self, "block_images", 16)
        check_tolerance(self)
