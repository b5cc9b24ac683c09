"""Losses against plain numpy; teacher points against the exact probability-flow ODE."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from postmean.training.model.losses.ect import ECTLoss, ect_loss
from postmean.training.model.losses.edm import EDMLoss, edm_loss
from postmean.training.model.losses.ict import ICTLoss, ict_loss
from postmean.training.model.losses.loss import pseudo_huber, teacher_point
from postmean.training.model.preconditioning import Denoiser
from postmean.training.model.preconditionings import CMPreconditioning
from postmean.training.presets import DIGITS
from postmean.training.stream.batch import TargetBatch
from tests.support.exact_runs import posterior_mean

SHAPE = (3, 4, 4)
Images = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Two batches, and the two noise levels of each image."""


@pytest.fixture
def images() -> Images:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, *SHAPE))
    sigma = np.array([0.01, 0.1, 1.0, 10.0, 80.0])
    return a, b, sigma, 0.7 * sigma


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(a) for a in arrays]


def norm(difference: np.ndarray) -> np.ndarray:
    return np.sqrt((difference.reshape(len(difference), -1) ** 2).sum(1))


def test_edm_loss(images: Images) -> None:
    a, b, sigma, _ = images
    expected = (sigma**2 + 0.25) / (0.5 * sigma) ** 2 * norm(a - b) ** 2
    np.testing.assert_allclose(edm_loss(*tensors(a, b, sigma), 0.5), expected)


def test_ict_loss_takes_the_norm_of_whole_images(images: Images) -> None:
    a, b, sigma, sigma_next = images
    c = 0.00054 * np.sqrt(48)
    expected = (np.sqrt(norm(a - b) ** 2 + c**2) - c) / (sigma - sigma_next)
    np.testing.assert_allclose(ict_loss(*tensors(a, b, sigma, sigma_next), 0.00054), expected)
    assert 0.00054 * np.sqrt(3 * 32 * 32) == pytest.approx(0.03, rel=0.01)  # Song & Dhariwal 2024 at 32x32


@pytest.mark.parametrize("c", [0.0, 0.06])
def test_ect_loss(images: Images, c: float) -> None:
    a, b, sigma, sigma_next = images
    distance = np.sqrt(norm(a - b) ** 2 + c**2) - c
    inputs = tensors(a, b, sigma, sigma_next)
    np.testing.assert_allclose(ect_loss(*inputs, ECTLoss(c=c), 0.5), distance / (sigma - sigma_next))
    weighted = (sigma**2 + 0.25) / (0.5 * sigma) ** 2 * distance
    np.testing.assert_allclose(ect_loss(*inputs, ECTLoss(c=c, weight="edm"), 0.5), weighted)


def test_gradient_is_finite_where_student_and_teacher_agree() -> None:
    difference = torch.zeros(2, *SHAPE, requires_grad=True)
    pseudo_huber(difference, 0.0).sum().backward()
    assert torch.equal(difference.grad, torch.zeros_like(difference))


def test_teacher_point_of_a_single_image_is_exact_and_of_sigma_next_zero_is_the_mean() -> None:
    x, eps = torch.randn(2, 4, *SHAPE, dtype=torch.float64)
    sigma = torch.tensor([0.1, 1.0, 10.0, 80.0], dtype=torch.float64)
    for sigma_next in (0.5 * sigma, torch.zeros_like(sigma)):
        for mean_next in (None, x):
            point = teacher_point(x + sigma[:, None, None, None] * eps, sigma, sigma_next, x, mean_next)
            torch.testing.assert_close(point, x + sigma_next[:, None, None, None] * eps)


def test_heun_follows_the_exact_flow_to_third_order_and_euler_to_second() -> None:
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, (6, 8))
    z = x[:3] + 1.0 * rng.normal(size=(3, 8))

    def mean_at(z: np.ndarray, sigma: float) -> np.ndarray:
        return posterior_mean(z, np.full(3, sigma), x)[0]

    def exact(z: np.ndarray, sigma_next: float) -> np.ndarray:
        grid = np.linspace(1.0, sigma_next, 2001)
        for a, b in pairwise(grid):  # midpoint rule, far finer than what is tested
            half = z + (b - a) / 2 * (z - mean_at(z, a)) / a
            z = z + (b - a) * (half - mean_at(half, (a + b) / 2)) / ((a + b) / 2)
        return z

    errors = {}
    for step in (0.1, 0.05):
        sigma, sigma_next = np.ones(3), np.full(3, 1 - step)
        mean = mean_at(z, 1.0)
        shaped = [torch.from_numpy(a.reshape(3, 8, 1, 1)) for a in (z, mean)]
        levels = tensors(sigma, sigma_next)
        euler = teacher_point(shaped[0], *levels, shaped[1])
        mean_next = mean_at(euler.numpy().reshape(3, 8), 1 - step).reshape(3, 8, 1, 1)
        heun = teacher_point(shaped[0], *levels, shaped[1], torch.from_numpy(mean_next))
        truth = exact(z, 1 - step)
        errors[step] = [np.abs(p.numpy().reshape(3, 8) - truth).max() for p in (euler, heun)]
    assert errors[0.1][1] < errors[0.1][0] / 5
    assert 3 < errors[0.1][0] / errors[0.05][0] < 5.5
    assert 6 < errors[0.1][1] / errors[0.05][1] < 11


def batch_of(z: torch.Tensor, sigma: torch.Tensor, sigma_next: torch.Tensor | None, mean: torch.Tensor) -> TargetBatch:
    n = len(z)
    return TargetBatch(
        tuple_id=torch.arange(n),
        z=z,
        sigma=sigma,
        sigma_next=sigma_next,
        x=mean,
        eps=z,
        mean=mean,
        mean_next=None,
        label=None,
        certified=torch.ones(n, dtype=torch.bool),
        ess=torch.ones(n),
        variance=torch.zeros(n),
        top_weight=torch.ones(n),
    )


def trained_enough(dropout: float) -> Denoiser:
    import dataclasses

    torch.manual_seed(0)
    network = dataclasses.replace(DIGITS, channels=16, dropout=dropout).build((1, 8, 8), 0)
    for parameter in network.parameters():  # not the initial zeros
        torch.nn.init.normal_(parameter, std=0.1)
    return Denoiser(network, CMPreconditioning()).train()


def test_teacher_draws_the_dropout_mask_of_the_student_and_no_gradient() -> None:
    denoiser = trained_enough(dropout=0.5)
    x = torch.rand(4, 1, 8, 8)
    sigma = torch.full((4,), 0.5)
    # z = x: the teacher point is x at sigma_next; with nearly equal sigmas, equal masks give nearly equal outputs
    batch = batch_of(x, sigma, sigma - 1e-5, x)
    with torch.no_grad():
        noise = (denoiser(x, sigma) - denoiser(x, sigma)).square().mean()
    loss = ICTLoss(huber=0.0)(denoiser, denoiser, batch) * 1e-5
    assert loss.max() ** 2 / 64 < 1e-3 * noise
    loss.sum().backward()
    assert all(p.grad is not None for p in denoiser.parameters())


def test_edm_loss_passes_z_and_not_x_to_the_network() -> None:
    seen: list[torch.Tensor] = []
    x, z = torch.zeros(2, *SHAPE), torch.ones(2, *SHAPE)

    class Model(Denoiser):
        def forward(self, z: torch.Tensor, sigma: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
            seen.append(z)
            return z

    model = Model(torch.nn.Identity(), CMPreconditioning())
    EDMLoss()(model, model, batch_of(z, torch.ones(2), None, x))
    assert torch.equal(seen[0], z)
