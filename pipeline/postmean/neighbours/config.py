"""The settings of `postmean index`, in a file that does not import torch."""

from dataclasses import dataclass
from typing import Literal

from postmean.base.checks import check_at_least_one, check_tolerance
from postmean.base.places import PositionalStore


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """What to build beside a store."""

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
    """Where the self-join is computed and the index will be searched; auto uses a GPU if this machine has one."""
    threads: int | None = None
    """CPU threads; default all cores that this process may use."""

    def __post_init__(self) -> None:
        check_at_least_one(self, ("nearest", "threads"))
        check_tolerance(self)
