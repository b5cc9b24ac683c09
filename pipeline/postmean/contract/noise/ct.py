"""Curriculum and distribution of consistency training."""

from dataclasses import dataclass
from typing import ClassVar

from postmean.base.lazy_numpy import np
from postmean.contract.noise.growing_grid import check_growing_grid, levels_on_grids
from postmean.contract.noise.noise import NoiseLevels
from postmean.contract.process import AnyProcess, karras_grid


@dataclass(frozen=True, kw_only=True)
class CTNoise:
    """CT (Song et al. 2023, App. C): a grid that grows with the square root of the step, and its levels uniformly.

    N(k) = ceil(sqrt(k/K ((s1 + 1)^2 - s0^2) + s0^2) - 1) + 1. With n uniform on 1 .. N - 1, the student sits at
    sigma_{n+1} and the teacher at sigma_n of the grid of Karras et al. 2022, Eq. 5.
    """

    kind: ClassVar[str] = "ct"
    uses_process: ClassVar[bool] = False
    has_teacher: ClassVar[bool] = True
    fits_heun: ClassVar[bool] = True
    s0: int = 2
    s1: int = 150
    total_steps: int = 800_000
    """K, training steps of the whole curriculum."""
    batch_size: int = 512
    """Tuples per training step: step k consumes tuples [k batch_size, (k+1) batch_size)."""
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        check_growing_grid(self, least=2)

    @property
    def steps_of(self) -> int | None:
        """Batch size of the training steps that the curriculum counts."""
        return self.batch_size

    def stage_at(self, tuple_id: int) -> int:
        """How many levels the grid has more than at the beginning."""
        sizes = self.grid_size(np.array([0, tuple_id // self.batch_size]))
        return int(sizes[1] - sizes[0])

    def grid_size(self, step: "np.ndarray") -> "np.ndarray":
        """N(k): the number of noise levels at each training step, int64; from step K on that of step K."""
        done = np.minimum(np.asarray(step, np.int64), self.total_steps) / self.total_steps
        root = np.sqrt(done * ((self.s1 + 1) ** 2 - self.s0**2) + self.s0**2)
        return np.ceil(root - 1).astype(np.int64) + 1

    @property
    def sigma_alone(self) -> "CTNoise":
        """Itself: every setting moves sigma."""
        return self

    def levels(self, uniform: "np.ndarray", tuple_id: "np.ndarray", process: AnyProcess) -> NoiseLevels:
        sizes = self.grid_size(np.asarray(tuple_id, np.int64) // self.batch_size)
        return levels_on_grids(sizes, uniform, self._pick)

    def _pick(self, size: int, uniform: "np.ndarray") -> tuple["np.ndarray", "np.ndarray"]:
        grid = karras_grid(size, self.sigma_min, self.sigma_max, self.rho).astype(np.float32)
        return grid, (uniform * (size - 1)).astype(np.int64)  # uniforms are below 1 - 2^-53: n < N - 1
