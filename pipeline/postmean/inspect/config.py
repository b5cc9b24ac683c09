"""Settings of `postmean inspect`."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from postmean.base.checks import check_at_least, check_at_least_one
from postmean.base.errors import ConfigError
from postmean.base.places import Place


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """What to look at."""

    path: Positional[str]
    """An image store or a run (folder or URL), a shard's .tar, a checkpoint, or the folder of a training run."""
    shard: int | None = None
    """Shard of the run to look at."""
    record: int | None = None
    """Record of the run to look at, counted from 0 over all shards."""
    store: Place | None = None
    """Image store (folder or URL) of the run, for --record; default the one that the run names."""
    neighbours: int = 8
    """Heaviest images of a record's mean to show."""
    picture: Path | None = None
    """PNG to draw: of a record its x, z, mean and heaviest images; of a store 64 of its images."""
    save: Path | None = None
    """File for the arrays of a record, as numpy.load reads it (.npz): x, z, mean, entry, weight."""

    def __post_init__(self) -> None:
        check_at_least_one(self, ("neighbours",))
        for name in ("shard", "record"):
            check_at_least(self, name, 0)
        if self.shard is not None and self.record is not None:
            raise ConfigError("--shard, --record: pass one of them")
        if self.record is None and (self.save is not None or self.store is not None):
            raise ConfigError("--save, --store: they are for --record")
