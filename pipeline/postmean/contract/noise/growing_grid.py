"""What curricula share whose grid of noise levels grows with the training step."""

from collections.abc import Callable
from typing import Protocol

from postmean.base.checks import check_finite, check_finite_positive
from postmean.base.errors import ConfigError
from postmean.base.lazy_numpy import np
from postmean.contract.noise.noise import NoiseLevels


class GrowingGrid(Protocol):
    """A curriculum from s0 to s1 over the steps of a training, on the grid of Karras et al. 2022, Eq. 5."""

    @property
    def s0(self) -> int: ...
    @property
    def s1(self) -> int: ...
    @property
    def total_steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def sigma_min(self) -> float: ...
    @property
    def sigma_max(self) -> float: ...
    @property
    def rho(self) -> float: ...


def check_growing_grid(noise: GrowingGrid, least: int) -> None:
    """ConfigError if the settings make no grid.

    Args:
        least: the smallest s0 allowed.
    """
    check_finite("noise", sigma_max=noise.sigma_max)
    check_finite_positive("noise", rho=noise.rho, sigma_min=noise.sigma_min, batch_size=noise.batch_size)
    if not noise.sigma_min < noise.sigma_max:
        raise ConfigError(f"noise: sigma_min {noise.sigma_min} must be below sigma_max {noise.sigma_max}")
    if not least <= noise.s0 <= noise.s1:
        raise ConfigError(f"noise: expected {least} <= s0 <= s1, got s0 {noise.s0}, s1 {noise.s1}")
    if noise.total_steps < 1:
        raise ConfigError(f"noise: total_steps must be positive, got {noise.total_steps}")


def levels_on_grids(
    sizes: "np.ndarray",
    uniform: "np.ndarray",
    pick: Callable[[int, "np.ndarray"], tuple["np.ndarray", "np.ndarray"]],
) -> NoiseLevels:
    """Noise levels of tuples: sigma_next is a level of the tuple's grid, sigma the level above it.

    Args:
        sizes: levels of the grid of each tuple, int64 [n].
        uniform: numbers in [0, 1), float64 [n].
        pick: of a size and the numbers of its tuples: the grid, float32, rising, and the index of each sigma_next.
    """
    sigma = np.empty(len(uniform), np.float32)
    sigma_next = np.empty(len(uniform), np.float32)
    is_one = len(sizes) > 0 and sizes.min() == sizes.max()  # as in nearly all blocks; a sort would be slow to say so
    for size in sizes[:1] if is_one else np.unique(sizes):
        rows = sizes == size
        grid, lower = pick(int(size), uniform[rows])
        sigma_next[rows], sigma[rows] = grid[lower], grid[lower + 1]
    return NoiseLevels(sigma, sigma_next)
