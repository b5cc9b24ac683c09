"""Split mean squared error into squared bias and variance, both unbiased even with few repetitions."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Errors:
    """Errors of P points per dimension, float64 [P] each; mse = bias2 + variance exactly."""

    mse: np.ndarray
    bias2: np.ndarray
    """Unbiased, so it can be below 0"""
    variance: np.ndarray
    """Unbiased"""


def decompose(mean_PRD: np.ndarray, reference_PD: np.ndarray) -> Errors:
    """Niedoba et al. 2024, Eq. 15, for each point.

    The expectation of |average - reference|^2 / D is bias^2 + variance / R, so variance / R is subtracted. With a
    single repetition all error counts as bias.

    Args:
        mean_PRD: estimates, R repetitions per point.
        reference_PD: the exact means, float64.
    """
    error = mean_PRD.astype(np.float64) - reference_PD[:, None]
    repeats = error.shape[1]
    mse = np.square(error).mean((1, 2))
    if repeats == 1:
        return Errors(mse, mse, np.zeros_like(mse))
    average = error.mean(1)
    variance = np.square(error - average[:, None]).sum(1).mean(1) / (repeats - 1)
    return Errors(mse, np.square(average).mean(1) - variance / repeats, variance)
