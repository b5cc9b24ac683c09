"""Score and velocity against their definitions, for every process and every shape of sigma."""

from typing import Any

import numpy as np
import pytest
import torch

from postmean.base.errors import ConfigError
from postmean.contract.process import AnyProcess, EDMProcess, FlowMatchingProcess, TableProcess, VPProcess
from postmean.contract.score import score, velocity

TABLE = TableProcess(t_knots=(0.0, 0.5, 2.0), s_knots=(1.0, 0.5, 0.1), sigma_knots=(0.002, 1.0, 80.0))
PROCESSES = [EDMProcess(), VPProcess(), FlowMatchingProcess(), TABLE]
BATCH = 6
"""Equal to the width of the images: there a sigma [B] would spread over the width without an error."""


def posterior(batch: int = BATCH) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Five images x, weights p of each point, mean, z and sigma, in float64."""
    rng = np.random.default_rng(0)
    x, sigma = rng.uniform(-1, 1, (5, 2, 4, BATCH)), np.geomspace(0.05, 50, batch)
    z = x[rng.integers(0, 5, batch)] + sigma[:, None, None, None] * rng.standard_normal((batch, *x.shape[1:]))
    log_p = -np.square(z[:, None] - x[None]).sum((2, 3, 4)) / (2 * sigma[:, None] ** 2)
    p = np.exp(log_p - log_p.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return x, p, np.einsum("bn,nchw->bchw", p, x), z, sigma


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: p.kind)
def test_score_is_the_gradient_of_the_log_density_of_the_process(process: AnyProcess) -> None:
    """Of the process's own variable z_t = s z, by automatic differentiation."""
    x, _, mean, z, sigma = posterior()
    s = process.s(sigma)
    z_t = torch.from_numpy(s[:, None, None, None] * z).requires_grad_()
    centre = torch.from_numpy(s[:, None, None, None, None] * x[None])
    squared = (z_t[:, None] - centre).square().sum((2, 3, 4))
    torch.logsumexp(-squared / torch.from_numpy(2 * (s * sigma) ** 2)[:, None], 1).sum().backward()
    assert z_t.grad is not None
    np.testing.assert_allclose(score(mean, z, sigma, process), z_t.grad.numpy(), rtol=1e-7, atol=1e-10)
    tensors = map(torch.from_numpy, (mean, z, sigma))
    np.testing.assert_allclose(score(*tensors, process).numpy(), z_t.grad.numpy(), rtol=1e-7, atol=1e-10)


def test_velocity_is_the_mean_of_eps_minus_x() -> None:
    x, p, mean, z, sigma = posterior()
    eps = (z[:, None] - x[None]) / sigma[:, None, None, None, None]
    expected = np.einsum("bn,bnchw->bchw", p, eps - x[None])
    np.testing.assert_allclose(velocity(mean, z, sigma), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("batch", [1, BATCH])
def test_every_shape_of_sigma_means_one_level_a_point(kind: str, batch: int) -> None:
    _, _, mean, z, sigma = posterior(batch)
    made: Any = torch.from_numpy if kind == "torch" else np.asarray
    mean, z, sigma = (made(value.astype(np.float32)) for value in (mean, z, sigma))
    for function in (score, velocity, lambda *a: score(*a, VPProcess())):
        whole = function(mean, z, sigma)
        assert whole.dtype == z.dtype and whole.shape == z.shape
        np.testing.assert_array_equal(function(mean, z, sigma.reshape(batch, 1, 1, 1)), whole)
        for n in range(batch):
            one = function(mean[n : n + 1], z[n : n + 1], float(sigma[n]))
            assert one.dtype == z.dtype
            np.testing.assert_allclose(one, whole[n : n + 1], rtol=1e-5)


@pytest.mark.parametrize("shape", [(BATCH, 1), (1, BATCH), (4, 1), (2, 1, 1), (1,), (BATCH, 2, 4, BATCH)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    _, _, mean, z, _ = posterior()
    for function in (score, velocity):
        with pytest.raises(ConfigError, match=r"expected one number, or \[6\] or \[6, 1, 1, 1\]"):
            function(mean, z, np.ones(shape))
        with pytest.raises(ConfigError, match="expected equal shapes"):
            function(mean[:, :1], z, 1.0)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf")])
def test_levels_that_are_none_are_refused(sigma: float) -> None:
    _, _, mean, z, _ = posterior()
    for value in (sigma, np.full(BATCH, sigma)):
        for function in (score, velocity):
            with pytest.raises(ConfigError, match="positive finite"):
                function(mean, z, value)
