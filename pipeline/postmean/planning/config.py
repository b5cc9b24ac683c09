"""Settings of a plan: the job, and the data set and machines that it is planned for."""

from dataclasses import dataclass

from postmean.base.checks import check_at_least_one, check_positive
from postmean.base.errors import ConfigError
from postmean.base.flags import FlagGroup
from postmean.planning.machines import Machines
from postmean.runs.config import JobConfig


@dataclass(frozen=True, kw_only=True)
class SampleSettings(FlagGroup):
    """The data set, where the store is a random sample of it."""

    images: int | None = None
    """Images of the data set that the store is a random sample of; default the store is all of it."""
    classes: int | None = None
    """Classes of that data set, if the sample has not all of them; used with --conditional."""

    def __post_init__(self) -> None:
        check_at_least_one(self, ("images", "classes"))


@dataclass(frozen=True, kw_only=True)
class MachineSettings(FlagGroup):
    """The machines, and what they cost."""

    actors: int | None = None
    """Ray actors; default one a GPU, or one a CPU core."""
    fleet: str = "here"
    """Machines: here, or nodes and their kind, as 2x8-h100, 1x8-a100, 16x1-l40s, 16xc7i."""
    price: float | None = None
    """Price of a node-hour, in any currency."""
    records_per_second: float | None = None
    """Rate of one actor of the fleet, where it was measured there (this command says it); default an estimate."""

    def __post_init__(self) -> None:
        check_at_least_one(self, ("actors",))
        check_positive(self, ("price", "records_per_second"))
        _ = self.machines

    @property
    def machines(self) -> Machines | None:
        """The named machines; None for this one."""
        return None if self.fleet == "here" else Machines.parse(self.fleet)


@dataclass(frozen=True, kw_only=True)
class PlanConfig(JobConfig):
    """A job, and what it is planned for."""

    sample: SampleSettings = SampleSettings()
    machines: MachineSettings = MachineSettings()
    exact: bool = False
    """Count every record, as `generate` does first, rather than a sample of the tuples: minutes for 400 million."""
    json: bool = False
    """Print the report as JSON."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.exact and self.sample != SampleSettings():
            raise ConfigError("--exact: counts the records of the store itself: leave --images and --classes out")
