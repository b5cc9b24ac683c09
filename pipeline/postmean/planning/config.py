"""Settings of a plan: the job, and the data set and machines it is planned for."""

from dataclasses import dataclass

from postmean.base.checks import check_at_least_one, check_positive
from postmean.base.errors import ConfigError
from postmean.base.flags import FlagGroup
from postmean.planning.machines import Machines
from postmean.runs.config import JobConfig


@dataclass(frozen=True, kw_only=True)
class SampleSettings(FlagGroup):
    """The data set, if the store is a random sample of it."""

    images: int | None = None
    """Images in the data set that the store is a random sample of; default: the store is the whole data set."""
    classes: int | None = None
    """Classes in that data set, if the sample lacks some of them; used with --conditional."""

    def __post_init__(self) -> None:
        check_at_least_one(self, ("images", "classes"))


@dataclass(frozen=True, kw_only=True)
class MachineSettings(FlagGroup):
    """The machines, and what they cost."""

    actors: int | None = None
    """Ray actors; default one per GPU, or as many as the CPU cores that may be used hold."""
    fleet: str = "here"
    """Machines: here, or number of nodes x kind of node, such as 2x8-h100, 1x8-a100, 16x1-l40s, 16xc7i."""
    price: float | None = None
    """Price of a node-hour, in any currency."""
    records_per_second: float | None = None
    """Rate of one actor of the fleet, if measured there (this command prints it); default an estimate."""

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
    """A job, and the data set and machines it is planned for."""

    sample: SampleSettings = SampleSettings()
    machines: MachineSettings = MachineSettings()
    exact: bool = False
    """Count all tuples instead of a sample of them, as `generate` does first; takes minutes for 400 million."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.exact and self.sample != SampleSettings():
            raise ConfigError("--exact: counts the records of the store itself: leave --images and --classes out")
