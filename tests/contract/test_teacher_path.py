"""The path to a far teacher point, against closed forms of the probability-flow ODE."""

import numpy as np
import pytest

from postmean.contract.teacher_path import path_mean, path_weights, substep_levels

SIGMA, NEXT = np.array([60.0, 5.0, 2.0, 0.7, 0.3]), np.array([3.0, 0.0, 1.9, 0.01, 0.3])
CENTRE, WIDTH = 0.3, 0.8


def gaussian_mean(rows: np.ndarray, z: np.ndarray, sigma: np.ndarray, number: int) -> np.ndarray:
    """E[x | z, sigma] of x ~ N(CENTRE, WIDTH^2)."""
    return CENTRE + (WIDTH**2 / (WIDTH**2 + sigma**2))[:, None] * (z - CENTRE)


def teacher_point(z: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The end of an Euler step with this mean."""
    return mean + (NEXT / SIGMA)[:, None] * (z - mean)


def test_a_data_set_of_one_image_is_its_own_average() -> None:
    z = np.random.default_rng(0).normal(0, SIGMA[:, None], (5, 3))
    image = np.array([-1.0, 0.25, 1.0])
    for substeps in (2, 16):
        mean, weights = path_mean(z, SIGMA, NEXT, substeps, lambda rows, z, sigma, number: np.tile(image, (len(z), 1)))
        assert np.abs(mean - image).max() < 1e-12
        assert (weights >= 0).all() and np.abs(weights.sum(0) - 1).max() < 1e-12


def test_the_flow_of_a_gaussian_is_reached_at_second_order() -> None:
    z = np.random.default_rng(1).normal(0, SIGMA[:, None], (5, 3))
    scale = np.sqrt((WIDTH**2 + NEXT**2) / (WIDTH**2 + SIGMA**2))
    exact = CENTRE + scale[:, None] * (z - CENTRE)  # Karras et al. 2022, Appendix B
    errors = [np.abs(teacher_point(z, path_mean(z, SIGMA, NEXT, m, gaussian_mean)[0]) - exact).max() for m in (16, 32)]
    assert errors[0] < 0.05 and 3 < errors[0] / errors[1] < 5


def test_the_average_is_of_the_means_on_the_way_and_reaches_the_end_of_the_substeps() -> None:
    z = np.random.default_rng(2).normal(0, SIGMA[:, None], (5, 3))
    seen = np.zeros((8, 5, 3))

    def mean_at(rows: np.ndarray, z: np.ndarray, sigma: np.ndarray, number: int) -> np.ndarray:
        seen[number, rows] = np.tanh(z / (1 + sigma[:, None]))
        return seen[number, rows]

    mean, weights = path_mean(z, SIGMA, NEXT, 4, mean_at)
    assert np.abs(np.einsum("kn,knd->nd", weights, seen) - mean).max() < 1e-12
    assert (seen[7, 1] == 0).all() and weights[7, 1] == 0  # no evaluation at sigma 0
    y, levels = z / SIGMA[:, None], substep_levels(SIGMA, NEXT, 4)
    for step in range(4):  # Heun's method for y = z / sigma in u = 1 / sigma
        u, later = (1 / np.where(levels[k] > 0, levels[k], np.inf) for k in (step, step + 1))
        y = y + ((later - u) / 2)[:, None] * (seen[2 * step] + seen[2 * step + 1])
    moves = NEXT > 0
    assert np.abs(y * NEXT[:, None] - teacher_point(z, mean))[moves].max() < 1e-9
    assert np.abs(mean[1] - seen[6, 1]).max() < 1e-12  # at sigma_next 0 the point is the last mean


@pytest.mark.parametrize("substeps", [2, 4, 8, 16])
def test_weights_are_those_of_a_mean_at_every_gap(substeps: int) -> None:
    high = np.geomspace(1e-8, 1e4, 50)
    for gap in (0.0, 1e-9, 0.1, 0.5, 1 - 1e-7, 1.0):
        weights = path_weights(substep_levels(high, high * gap, substeps))
        assert weights.shape == (2 * substeps, 50) and (weights >= 0).all()
        assert np.abs(weights.sum(0) - 1).max() < 1e-9
