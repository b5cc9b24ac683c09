"""Interface of a noise distribution: a map from a uniform number and a tuple id to sigma and sigma_next."""

from typing import NamedTuple, Protocol

from postmean.base.lazy_numpy import np
from postmean.contract.process import AnyProcess


class NoiseLevels(NamedTuple):
    """Noise levels of a block of tuples: float32 arrays of one length."""

    sigma: "np.ndarray"
    sigma_next: "np.ndarray | None"
    """Level of the teacher point of consistency training; None if the distribution has none"""


class Noise(Protocol):
    """A noise distribution and its discretisation curriculum.

    The map is deterministic: tuple n of a run has the same noise levels everywhere. A new distribution is one file
    with a frozen dataclass of this form, plus one entry in `AnyNoise`.
    """

    @property
    def kind(self) -> str:
        """Its name in files."""
        ...

    @property
    def uses_process(self) -> bool:
        """Whether sigma depends on the process, as where times are drawn."""
        ...

    @property
    def has_teacher(self) -> bool:
        """Whether levels have a sigma_next, which gives the teacher point."""
        ...

    @property
    def fits_heun(self) -> bool:
        """Whether the teacher is near enough for Heun's step: far below sigma, the second slope overshoots."""
        ...

    @property
    def steps_of(self) -> int | None:
        """Batch size of the training steps that the curriculum counts; None without such a curriculum."""
        ...

    @property
    def sigma_alone(self) -> "Noise":
        """A distribution of the same sigma with as few settings as possible: without those of sigma_next alone."""
        ...

    def stage_at(self, tuple_id: int) -> int | None:
        """Stage of the curriculum at a tuple, from 0; None without a curriculum."""
        ...

    def levels(self, uniform: "np.ndarray", tuple_id: "np.ndarray", process: AnyProcess) -> NoiseLevels:
        """Noise levels of n tuples.

        Args:
            uniform: float64 [n] in (0, 1), one per tuple.
            tuple_id: int64 [n].
        """
        ...


def normal_quantile(uniform: "np.ndarray") -> "np.ndarray":
    """Standard normal quantile of uniforms in (0, 1), float64."""
    from scipy.special import ndtri  # here: importing scipy would add half a second to every command's --help

    return ndtri(uniform)
