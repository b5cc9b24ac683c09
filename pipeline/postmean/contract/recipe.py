"""The recipe of targets. Pipeline and trainer must hold the same one, or the trainer refuses the targets."""

from dataclasses import dataclass
from typing import Literal

from postmean.base.errors import ConfigError
from postmean.base.flags import FlagGroup
from postmean.contract.noise import AnyNoise, LogNormalNoise
from postmean.contract.process import AnyProcess, EDMProcess

Solver = Literal["euler", "heun", "heun-2", "heun-4", "heun-8", "heun-16"]


@dataclass(frozen=True, kw_only=True)
class TargetRecipe(FlagGroup):
    """Process, noise levels, teacher step and population of the targets."""

    process: AnyProcess = EDMProcess()
    noise: AnyNoise = LogNormalNoise()
    solver: Solver = "euler"
    """Step to the teacher point. heun also needs the posterior mean at the Euler point: records carry mean_next.
    heun-M makes M sub-steps, for distillation: the mean of a record is then the average of the means on the way."""
    flips: bool = False
    """Whether horizontally flipped images also count as data."""
    conditional: bool = False
    """Whether the posterior runs over the images of the tuple's class only."""

    @property
    def substeps(self) -> int:
        """Sub-steps whose average is the mean of a record; 0 with euler and heun, whose records have the mean at z."""
        return int(self.solver.removeprefix("heun-")) if "-" in self.solver else 0

    def __post_init__(self) -> None:
        if self.solver != "euler" and not self.noise.has_teacher:
            raise ConfigError(
                f"--solver {self.solver}: noise {self.noise.kind} has no teacher point: use --solver euler or an ict "
                "preset"
            )
        if self.solver == "heun" and not self.noise.fits_heun:
            raise ConfigError(
                f"--solver heun: noise {self.noise.kind} steps far, where the slope at the second point overshoots: "
                "use --solver euler, as its authors do, or sub-steps, as heun-8"
            )
