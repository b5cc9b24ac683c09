"""The power-function average of EDM2."""

from dataclasses import dataclass
from typing import ClassVar

from postmean.base.errors import ConfigError

LARGEST_SIGMA_REL = 12**-0.5
"""Relative width of the uniform average, gamma = 0: no power function with gamma >= 0 is wider."""


@dataclass(frozen=True, kw_only=True)
class PowerEMA:
    """Karras et al. 2024, Sec. 3.1: the weights of image t, of T seen, enter in proportion to t^gamma.

    The width of this profile is a fixed share `sigma_rel` of the training. Any other width can be had afterwards from
    two such averages and their snapshots (`postmean sample --ema`).
    """

    kind: ClassVar[str] = "power"
    sigma_rel: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.sigma_rel < LARGEST_SIGMA_REL:
            raise ConfigError(f"ema.sigma_rel: expected 0 < sigma_rel < {LARGEST_SIGMA_REL:.3f}, got {self.sigma_rel}")

    @property
    def gamma(self) -> float:
        """Exponent of the power function."""
        return gamma_of(self.sigma_rel)

    def decay_at(self, images: int, batch_size: int) -> float:
        """Decay of the step that takes the run to `images` images: (1 - 1/t)^(gamma + 1) in steps, Eq. 127."""
        return max(0.0, 1 - batch_size / images) ** (self.gamma + 1)


def gamma_of(sigma_rel: float) -> float:
    """gamma of a relative width, Karras et al. 2024, Eq. 126 and Algorithm 2.

    sigma_rel = sqrt((gamma + 1) / ((gamma + 2)^2 (gamma + 3))), whose inverse is the largest real root of
    gamma^3 + 7 gamma^2 + (16 - sigma_rel^-2) gamma + (12 - sigma_rel^-2).
    """
    import numpy as np  # here: the command line imports this file

    inverse = sigma_rel**-2.0
    return float(np.roots([1.0, 7.0, 16 - inverse, 12 - inverse]).real.max())
