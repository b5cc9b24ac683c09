"""Settings to generate shards or serve them live, and the presets that fill them in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from tyro.conf import Positional

from postmean.base.checks import check_at_least, check_at_least_one, check_positive
from postmean.base.errors import ConfigError
from postmean.base.flags import FlagGroup, incomplete
from postmean.base.from_preset import from_preset, named
from postmean.base.places import Place
from postmean.contract.presets import PRESETS
from postmean.contract.recipe import TargetRecipe
from postmean.contract.settings import EstimatorSettings, ShardSettings
from postmean.fleet.settings import ActorSettings, FleetSettings

_MOST_IN_SECONDS = 1024  # records that verification keeps, 50 kB each, to recompute as many as time allows


@dataclass(frozen=True, kw_only=True)
class JobConfig:
    """Which targets to make, from what and how: everything that decides the bytes of a run."""

    store: Place
    """Image store made by `postmean import`, indexed by `postmean index`: folder, or URL such as s3://bucket/a.store."""
    tuples: int
    """Tuples (x, sigma, eps) of the run, one per training image seen. A larger number extends an existing run."""
    seed: int = 0
    """Seed of all random numbers; those of a tuple depend only on it and the tuple's number."""
    recipe: TargetRecipe = TargetRecipe()
    process_table: Path | None = None
    """CSV of t,s,sigma for any other process; replaces --process."""
    estimator: EstimatorSettings = EstimatorSettings()
    shards: ShardSettings = ShardSettings()
    actor: ActorSettings = ActorSettings()

    def __post_init__(self) -> None:
        check_at_least_one(self, ("tuples",))

    @classmethod
    def preset(cls, name: str, **settings: Any) -> Self:
        """The settings of a preset of `PRESETS`, such as edm-cifar10.

        >>> GenerateConfig.preset("edm-digits", store=Path("digits.store"), out="targets", k=64).estimator.k
        64

        Args:
            settings: those without a default, such as the store, and those to change, by the names of fields or flags.
        Raises:
            ConfigError: no such preset or setting, or one is missing, of a wrong type or out of range.
        """
        return from_preset(cls, named(PRESETS, name, "generate").settings(), settings)


@dataclass(frozen=True, kw_only=True)
class FollowSettings(FlagGroup):
    """Trainers that follow the run while it is made."""

    ahead: int | None = None
    """Shards made beyond those the slowest trainer needs next (see `postmean train --follow-seconds`); default all."""
    trainers: int = 1
    """Number of trainers that follow; for --ahead and --delete-consumed, one that has not begun is at tuple 0."""
    delete_consumed: bool = False
    """Delete shards that no trainer can need again, even if it resumes from its oldest checkpoint."""
    trainer_seconds: float = 3600.0
    """With --ahead: stop after waiting this long without any trainer taking a batch."""

    def __post_init__(self) -> None:
        check_at_least_one(self, ("ahead", "trainers"))
        check_positive(self, ("trainer_seconds",))


@dataclass(frozen=True, kw_only=True)
class GenerateConfig(JobConfig):
    """A job whose shards are written."""

    out: str
    """Folder of the run, or s3://, gs:// or az:// URL: manifest, plan, shards, commit records."""
    fleet: FleetSettings = FleetSettings()
    follow: FollowSettings = FollowSettings()
    dry_run: bool = False
    """Show the plan and its cost, write nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.follow.delete_consumed and self.shards.format == "zarr":
            raise ConfigError(
                "--delete-consumed: readers of Zarr would take deleted chunks for zeros: use --format webdataset"
            )


@dataclass(frozen=True, kw_only=True)
class ServeConfig(JobConfig):
    """A job whose shards go to trainers as they ask for them, and never to disk."""

    fleet: FleetSettings = FleetSettings()
    host: str = "127.0.0.1"
    """Address to listen on: 0.0.0.0 for trainers on other machines of a private network."""
    port: int = 8801
    """Port to listen on; 0 for any free port."""
    tls_certificate: Path | None = None
    """PEM file with the server's certificate: targets and token then travel encrypted, at https://."""
    tls_key: Path | None = None
    """PEM file with the private key of --tls-certificate."""
    depth: int = 16
    """Shards to prepare per trainer, including the one it asked for."""
    trainers: int = 1
    """Trainers that read at different places; all ranks of a trainer count as one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, ("depth", "trainers"))
        if self.shards.format != "webdataset":
            raise ConfigError("--format: live shards are WebDataset: leave it at webdataset")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ConfigError("--tls-certificate, --tls-key: one without the other: pass both or neither")


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """What to verify."""

    out: Positional[str]
    """Folder of the run."""
    store: Place
    """Image store that the run was generated from: folder or URL."""
    records: int | None = None
    """Records, and as many certified tuples, to recompute; default 128, with --seconds as many as fit."""
    seconds: float | None = None
    """Time for recomputing: as many records as fit, spread over sigma, but at least 16."""
    shards: int | None = None
    """Shards to read and hash, spread evenly over the run, of which the records are sampled too; default all."""
    threads: int | None = None
    """CPU threads; default as many as the usable cores."""

    def __post_init__(self) -> None:
        check_at_least(self, "records", 0)
        check_at_least_one(self, ("threads", "shards"))
        check_positive(self, ("seconds",))

    @property
    def most_records(self) -> int:
        """Records to sample."""
        if self.records is not None:
            return self.records
        return 128 if self.seconds is None else _MOST_IN_SECONDS


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What to export, and as what."""

    targets: Positional[str]
    """Folder or URL of the run."""
    format: Literal["parquet"] = "parquet"
    """parquet: one row a record, one file a shard."""
    out: str | None = None
    """Folder or URL for the tables; default TARGETS-parquet."""


C = TypeVar("C", bound=JobConfig)


def presets(kind: type[C], **chosen: Any) -> dict[str, tuple[str, C]]:
    """Presets of this kind of job: name -> (summary, config).

    Args:
        chosen: values of fields; fields with neither a value nor a default, such as the store, stay missing.
    """
    return {name: (preset.summary, incomplete(kind, **preset.settings() | chosen)) for name, preset in PRESETS.items()}
