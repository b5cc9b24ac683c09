"""The denoiser: boundary conditions, unit variance, inputs of the network."""

import math

import pytest
import torch
from torch import nn

from postmean.training.model.losses.loss import edm_weight
from postmean.training.model.preconditioning import Denoiser
from postmean.training.model.preconditionings import (
    AnyPreconditioning,
    CMPreconditioning,
    EDMPreconditioning,
    FlowPreconditioning,
    TrigFlowPreconditioning,
)

SIGMA = torch.tensor([0.002, 0.01, 0.5, 3.0, 80.0], dtype=torch.float64)


class Recorder(nn.Module):
    """A network with random outputs that records its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]] = []

    def forward(self, z: torch.Tensor, time: torch.Tensor, class_labels: torch.Tensor | None = None) -> torch.Tensor:
        self.seen.append((z, time, class_labels))
        return torch.randn(z.shape, generator=torch.Generator().manual_seed(0))


def test_edm_scalings_give_unit_variance_inputs_and_targets() -> None:
    c_skip, c_out, c_in = EDMPreconditioning().scalings(SIGMA)
    torch.testing.assert_close(c_in**2 * (SIGMA**2 + 0.25), torch.ones_like(SIGMA))
    # Karras et al. 2022, App. B.6: the target (x - c_skip z) / c_out has unit variance where x has sigma_data
    torch.testing.assert_close(((1 - c_skip) ** 2 * 0.25 + c_skip**2 * SIGMA**2) / c_out**2, torch.ones_like(SIGMA))
    torch.testing.assert_close(edm_weight(SIGMA, 0.5) * c_out**2, torch.ones_like(SIGMA))


def test_cm_scalings_equal_those_of_the_diffusers_scheduler() -> None:
    from diffusers.schedulers.scheduling_consistency_models import CMStochasticIterativeScheduler

    c_skip, c_out, c_in = CMPreconditioning().scalings(SIGMA)
    theirs = CMStochasticIterativeScheduler().get_scalings_for_boundary_condition(SIGMA)
    torch.testing.assert_close((c_skip, c_out), theirs)
    torch.testing.assert_close(c_in, 1 / (SIGMA**2 + 0.25).sqrt())


def test_flow_and_trigflow_networks_predict_their_velocities() -> None:
    x, eps = torch.randn(2, 5, dtype=torch.float64)
    z = x + SIGMA * eps
    t = SIGMA / (1 + SIGMA)
    c_skip, c_out, c_in = FlowPreconditioning().scalings(SIGMA)
    torch.testing.assert_close(c_in * z, (1 - t) * x + t * eps)
    torch.testing.assert_close(c_skip * z + c_out * (eps - x), x)  # a network of v = eps - x denoises
    torch.testing.assert_close(FlowPreconditioning().time(SIGMA), t)

    trig = TrigFlowPreconditioning(sigma_data=0.4)
    t = trig.time(SIGMA)
    torch.testing.assert_close(0.4 * t.tan(), SIGMA)
    c_skip, c_out, c_in = trig.scalings(SIGMA)
    noise = 0.4 * eps
    torch.testing.assert_close(0.4 * c_in * z, t.cos() * x + t.sin() * noise)
    velocity = t.cos() * noise - t.sin() * x
    torch.testing.assert_close(c_skip * z + c_out * velocity / 0.4, x)


BOUNDARIES = [
    (CMPreconditioning(), 0.002),
    (EDMPreconditioning(), 0.0),
    (FlowPreconditioning(), 0.0),
    (TrigFlowPreconditioning(), 0.0),
]


@pytest.mark.parametrize("preconditioning, sigma", BOUNDARIES)
def test_consistency_function_is_the_identity_at_its_boundary(
    preconditioning: AnyPreconditioning, sigma: float
) -> None:
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(Denoiser(Recorder(), preconditioning)(x, torch.full((3,), sigma)), x, rtol=0, atol=0)


def test_network_sees_the_canonical_z_scaled_and_the_recorded_time() -> None:
    z, sigma, label = torch.randn(2, 3, 8, 8) * 9, torch.tensor([0.3, 9.0]), torch.tensor([1, 2])
    for preconditioning, scale in ((EDMPreconditioning(), 0.25), (CMPreconditioning(), 250.0)):
        network = Recorder()
        Denoiser(network, preconditioning)(z, sigma, label)
        ((seen, time, labels),) = network.seen
        torch.testing.assert_close(seen, z / (sigma**2 + 0.25).sqrt()[:, None, None, None])
        torch.testing.assert_close(time, scale * sigma.log())
        assert labels is label
        assert preconditioning.time_conditioning.startswith(f"{scale:g} ")


def test_time_of_sigma_zero_is_finite() -> None:
    assert math.isfinite(float(EDMPreconditioning().time(torch.zeros(1))))
