"""Settings that, with the recipe, decide a run's bytes: how means are estimated and how records are stored."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from postmean.base.checks import check_at_least, check_at_least_one, check_tolerance
from postmean.base.flags import FlagGroup

ShardFormat = Literal["webdataset", "zarr"]


@dataclass(frozen=True, kw_only=True)
class EstimatorSettings(FlagGroup):
    """The estimator of the means and its settings (one that the estimator does not use does not change the means)."""

    flag_names: ClassVar[dict[str, str]] = {"name": "estimator"}

    name: str = "auto"
    """Estimator of the posterior mean: auto is exact within --tolerance, knn-snis is the paper's."""
    k: int = 2048
    """Neighbours of knn-snis and knn-stratified."""
    n: int = 256
    """Draws of knn-snis, posterior-mc and stf."""
    m: int = 256
    """Draws of knn-stratified from the images other than its neighbours."""
    index: str = "exact"
    """Search of the knn estimators: exact, flat, sq8, ivf<lists>-flat or ivf<lists>-sq8."""
    nprobe: int = 100
    """Partitions of an inverted file to search."""
    certificate: bool = True
    """Do not store tuples whose mean is certified to be the source image: the trainer makes them."""
    tolerance: float = 1e-6
    """Mean squared error per dimension allowed to the certificate and to the approximations of auto."""

    def __post_init__(self) -> None:
        check_at_least_one(self, ("k", "n", "m", "nprobe"))
        check_tolerance(self)


@dataclass(frozen=True, kw_only=True)
class ShardSettings(FlagGroup):
    """How records become shards."""

    format: ShardFormat = "webdataset"
    """Codec of the shards."""
    self_contained: bool = False
    """Write every tuple with z, x, sigma, label and a dense mean, for readers without postmean."""
    records_per_shard: int = 2048
    """Records per shard; a shard is the unit of work, of commit and of loss."""
    max_support: int = 256
    """Most (entry, weight) pairs of a sparse mean; a mean with more is stored dense."""

    def __post_init__(self) -> None:
        check_at_least_one(self, ("records_per_shard",))
        check_at_least(self, "max_support", 0)
