"""What a noise distribution is: a map from a uniform number and a tuple id to sigma and sigma_next."""

from typing import NamedTuple, Protocol

import numpy as np

from postmean.contract.process import AnyProcess


class NoiseLevels(NamedTuple):
    """Noise levels of a block of tuples: float32 arrays of one length."""

    sigma: np.ndarray
    sigma_next: np.ndarray | None
    """Level of the teacher point of consistency training; None where there is none"""


class Noise(Protocol):
    """A noise distribution and its discretisation curriculum.

    It is a deterministic map: tuple n of a run has the same noise levels everywhere. A new distribution is one file
    with a frozen dataclass of this form, and one entry in `AnyNoise`.
    """

    @property
    def kind(self) -> str:
        """Its name in files."""
        ...

    @property
    def has_teacher(self) -> bool:
        """Whether levels have a sigma_next, so that there is a teacher point."""
        ...

    @property
    def steps_of(self) -> int | None:
        """Batch size whose training steps its curriculum counts; None without such a curriculum."""
        ...

    def levels(self, uniform: np.ndarray, tuple_id: np.ndarray, process: AnyProcess) -> NoiseLevels:
        """Noise levels of n tuples.

        Args:
            uniform: float64 [n] in (0, 1), one for each tuple.
            tuple_id: int64 [n].
        """
        ...


def normal_quantile(uniform: np.ndarray) -> np.ndarray:
    """Standard normal quantile of uniforms in (0, 1), float64."""
    from scipy.special import ndtri  # here: scipy costs every command's --help half a second

    return ndtri(uniform)
