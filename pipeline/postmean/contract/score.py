"""Score and velocity, which follow from a posterior mean."""

from typing import Any, TypeVar

import numpy as np

from postmean.base.errors import ConfigError
from postmean.contract.process import AnyProcess, EDMProcess

Array = TypeVar("Array")
"""A numpy array or a torch tensor."""


def score(mean: Array, z: Array, sigma: Any, process: AnyProcess = EDMProcess()) -> Array:  # noqa: B008
    """The score of a process at z_t = s(t) z: (mean - z) / (s(t) sigma^2).

    Niedoba et al. 2024, Eq. 5 where s = 1, and Algorithm 2 for any process.

    >>> mean, z = np.array([[0.5, 0.0]]), np.array([[2.5, 4.0]])
    >>> score(mean, z, sigma=2.0)
    array([[-0.5, -1. ]])

    Args:
        mean: E[x | z, sigma], [B, ...].
        z: the canonical x + sigma eps, which is z_t / s(t), of the same shape.
        sigma: noise level of each point, [B] or [B, 1, ..., 1], or one number for all.
        process: gives s(t); the default is the canonical process.
    Raises:
        ConfigError: the shapes do not fit, or a sigma is not positive and finite.
    """
    level = _column(mean, z, sigma)
    if isinstance(process, EDMProcess):
        return (mean - z) / level**2  # type: ignore[operator]
    s = process.s(np.asarray(level.detach().cpu() if hasattr(level, "detach") else level, np.float64))
    s = level.new_tensor(s) if hasattr(level, "new_tensor") else s.astype(level.dtype)
    return (mean - z) / (s * level**2)  # type: ignore[operator]


def velocity(mean: Array, z: Array, sigma: Any) -> Array:
    """The target of flow matching, E[eps - x | z]: (z - mean) / sigma - mean.

    This is dz_t/dt of `FlowMatchingProcess`. No other factor enters, as z is canonical.

    >>> velocity(np.array([[0.5, 0.0]]), np.array([[2.5, 4.0]]), sigma=2.0)
    array([[0.5, 2. ]])

    Args:
        mean: E[x | z, sigma], [B, ...].
        z: the canonical x + sigma eps, of the same shape.
        sigma: noise level of each point, [B] or [B, 1, ..., 1], or one number for all.
    Raises:
        ConfigError: the shapes do not fit, or a sigma is not positive and finite.
    """
    return (z - mean) / _column(mean, z, sigma) - mean  # type: ignore[operator]


def _column(mean: Any, z: Any, sigma: Any) -> Any:
    """Sigma as an array like z, [B, 1, ..., 1] or with no axis: it never spreads over another axis than the first."""
    if tuple(mean.shape) != tuple(z.shape):
        raise ConfigError(f"mean {list(mean.shape)}, z {list(z.shape)}: expected equal shapes")
    sigma = _like(sigma, z)
    shape = tuple(sigma.shape)
    column = tuple(z.shape[:1]) + (1,) * (z.ndim - 1)
    if shape not in ((), tuple(z.shape[:1]), column):
        each = f"{list(z.shape[:1])} or {list(column)}"
        raise ConfigError(f"sigma {list(shape)}: expected one number, or {each} for z {list(z.shape)}")
    if not bool(((sigma > 0) & (sigma < float("inf"))).all()):
        raise ConfigError("sigma: expected positive finite noise levels")
    return sigma if shape == () else sigma.reshape(column)


def _like(value: Any, z: Any) -> Any:
    """The value as a numpy array, or as a tensor of z's device and precision where z is a tensor."""
    if not hasattr(z, "new_tensor"):
        return np.asarray(value, z.dtype if isinstance(value, int | float) else None)
    return value.to(z.device) if hasattr(value, "new_tensor") else z.new_tensor(np.asarray(value))
