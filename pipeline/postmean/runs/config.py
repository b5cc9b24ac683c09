"""Settings of a generation, into shards or live, and the presets that fill them in."""

from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from postmean.base.checks import check_at_least_one, check_positive
from postmean.base.errors import ConfigError
from postmean.contract.manifest import EstimatorName, ShardFormat, Solver
from postmean.contract.noise import TEACHER_NOISES, AnyNoise, LogNormalNoise
from postmean.contract.presets import PRESETS
from postmean.contract.process import AnyProcess, EDMProcess
from postmean.fleet.settings import FleetConfig


@dataclass(frozen=True, kw_only=True)
class JobConfig(FleetConfig):
    """What targets to make, how, and on what."""

    store: Path
    """Image store made by `postmean import`, indexed by `postmean index`."""
    tuples: int
    """Tuples (x, sigma, eps) of the run: training images seen. More than a run has extend it."""
    seed: int = 0
    """Everything random follows from it and the tuple's number."""
    estimator: EstimatorName = "auto"
    """Estimator of the posterior mean: auto is exact within --tolerance, knn-snis is the paper's."""
    k: int = 2048
    """Neighbours of knn-snis and knn-stratified."""
    n: int = 256
    """Draws of knn-snis, posterior-mc and stf."""
    m: int = 256
    """Draws of knn-stratified beyond its neighbours."""
    index: str = "exact"
    """Search of the knn estimators: exact, flat, sq8, ivf<lists>-flat or ivf<lists>-sq8."""
    nprobe: int = 100
    """Partitions searched of an inverted file."""
    format: ShardFormat = "webdataset"
    """Codec of the shards."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where an actor computes; auto takes GPUs where there are any."""
    process: AnyProcess = EDMProcess()
    process_table: Path | None = None
    """CSV of t,s,sigma for any other process; replaces --process."""
    noise: AnyNoise = LogNormalNoise()
    solver: Solver = "euler"
    """heun: make the posterior mean at the Euler point too."""
    flips: bool = False
    """Whether horizontally flipped images are data too."""
    conditional: bool = False
    """Whether the posterior is over the images of the tuple's class alone."""
    certificate: bool = True
    """Leave tuples whose mean is certified to be the source image to the trainer."""
    tolerance: float = 1e-6
    """Mean squared error per dimension that the certificate, and what auto leaves out, may cost."""
    self_contained: bool = False
    """Write every tuple with z, x, sigma, label and a dense mean, for readers without postmean."""
    records_per_shard: int = 2048
    """Records a shard: the unit of work, of commit and of loss."""
    max_support: int = 256
    """Most (entry, weight) pairs of a mean stored sparse."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, ("tuples", "k", "n", "m", "nprobe", "records_per_shard"))
        if not 0 < self.tolerance < 1:
            raise ConfigError(f"--tolerance: expected a mean squared error in (0, 1), got {self.tolerance}")
        if self.max_support < 0:
            raise ConfigError(f"--max-support: expected at least 0, got {self.max_support}")
        if self.solver == "heun" and self.noise.kind not in TEACHER_NOISES:
            raise ConfigError(
                f"--solver heun: noise {self.noise.kind} has no teacher point: use --solver euler or an ict preset"
            )


@dataclass(frozen=True, kw_only=True)
class GenerateConfig(JobConfig):
    """A job whose shards are written."""

    out: str
    """Folder of the run, or s3://, gs:// or az:// URL: manifest, plan, shards, commit records."""
    ahead: int | None = None
    """Shards to make beyond those that the slowest trainer needs next (see `postmean train --follow-seconds`)."""
    trainers: int = 1
    """Trainers that follow: for --ahead and --delete-consumed, who has not begun is at tuple 0."""
    delete_consumed: bool = False
    """Delete shards that no trainer can need again, were it to go on from its oldest checkpoint."""
    trainer_seconds: float = 3600.0
    """With --ahead: end when no trainer has taken a batch for so long while it was waited for."""
    dry_run: bool = False
    """Show the plan and its cost, write nothing."""
    json: bool = False
    """Print the report as JSON."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, ("ahead", "trainers"))
        check_positive(self, ("trainer_seconds",))
        if self.delete_consumed and self.format == "zarr":
            raise ConfigError(
                "--delete-consumed: readers of Zarr would take deleted chunks for zeros: use --format webdataset"
            )


@dataclass(frozen=True, kw_only=True)
class ServeConfig(JobConfig):
    """A job whose shards go to trainers as they ask for them, and to no disk."""

    host: str = "127.0.0.1"
    """Address to listen on: 0.0.0.0 for trainers on other machines of a private network."""
    port: int = 8801
    """0 for any that is free."""
    depth: int = 16
    """Shards made ahead of each trainer, that which it asks for included."""
    trainers: int = 1
    """Trainers at places of their own; the ranks of one count as one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, ("depth", "trainers"))
        if self.format != "webdataset":
            raise ConfigError("--format: live shards are WebDataset: leave it at webdataset")


C = TypeVar("C", bound=JobConfig)


def presets(kind: type[C], **chosen: Any) -> dict[str, tuple[str, C]]:
    """Presets of this kind of job: name -> (summary, config).

    Args:
        chosen: values of fields; those that have neither a value nor a default are still missing, as is the store.
    """
    import tyro

    missing: Any = tyro.MISSING
    needed = {f.name: missing for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    found = {}
    for name, preset in PRESETS.items():
        values: dict[str, Any] = dict(
            tuples=preset.tuples,
            process=preset.process,
            noise=preset.noise,
            solver=preset.solver,
            flips=preset.flips,
            conditional=preset.conditional,
        )
        found[name] = (preset.summary, kind(**needed | values | chosen))
    return found
