"""Losses of flow matching, EDM2, CT, sCM and MeanFlow against closed forms: Gaussian data, sums over few images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from postmean.base.errors import ConfigError, DataError
from postmean.contract.noise import CTNoise, ICTNoise
from postmean.contract.score import velocity
from postmean.training.dial import Dial
from postmean.training.model.losses import CTLoss, EDM2Loss, FlowLoss, MeanFlowLoss, SCMLoss
from postmean.training.model.losses.edm2 import edm2_loss
from postmean.training.model.losses.flow import marginal_velocity
from postmean.training.model.losses.lpips import LPIPS, lpips_of
from postmean.training.model.losses.scm import normalised
from postmean.training.model.losses.uncertainty import Uncertainty
from postmean.training.model.networks import DDPMppNetwork, UNet2DNetwork
from postmean.training.model.preconditioning import Denoiser
from postmean.training.model.preconditionings import (
    CMPreconditioning,
    EDMPreconditioning,
    FlowPreconditioning,
    TrigFlowPreconditioning,
)
from postmean.training.presets import PRESETS
from postmean.training.stream.batch import TargetBatch
from tests.training.test_losses import batch_of

SHAPE = (1, 4, 4)
SPREAD = 0.3
"""Standard deviation of the Gaussian data, whose posterior mean, flow and consistency function are closed forms."""


def gaussian_batch(sigma: list[float], sigma_next: list[float] | None = None) -> TargetBatch:
    torch.manual_seed(3)
    levels = torch.tensor(sigma)
    x, eps = SPREAD * torch.randn(len(sigma), *SHAPE), torch.randn(len(sigma), *SHAPE)
    z = x + levels[:, None, None, None] * eps
    mean = SPREAD**2 / (SPREAD**2 + levels**2)[:, None, None, None] * z
    batch = batch_of(z, levels, None if sigma_next is None else torch.tensor(sigma_next), mean)
    return replace(batch, x=x, eps=eps)


class Constant(nn.Module):
    """A network that gives the same images."""

    def __init__(self, output: torch.Tensor) -> None:
        super().__init__()
        self.given = nn.Parameter(output.clone())

    def forward(self, x, time, class_labels=None, second_time=None):
        return self.given


def test_flow_loss_is_the_error_of_the_velocity() -> None:
    batch = gaussian_batch([0.1, 1.0, 20.0])
    output = torch.randn(3, *SHAPE)
    denoiser = Denoiser(Constant(output), FlowPreconditioning())
    u = velocity(batch.mean.double().numpy(), batch.z.double().numpy(), batch.sigma.double().numpy())
    expected = ((output.double().numpy() - u) ** 2).sum((1, 2, 3))
    np.testing.assert_allclose(FlowLoss()(denoiser, denoiser, batch).detach(), expected, rtol=1e-4)
    other = Denoiser(Constant(output), EDMPreconditioning())  # whose network predicts no velocity
    z, level = batch.z.double().numpy(), batch.sigma.double().numpy()
    v = velocity(other(batch.z, batch.sigma).double().detach().numpy(), z, level)
    expected = ((v - u) ** 2).sum((1, 2, 3))
    np.testing.assert_allclose(FlowLoss()(other, other, batch).detach(), expected, rtol=1e-4)


def test_edm2_loss_is_the_published_one_averaged_over_the_posterior() -> None:
    rng = np.random.default_rng(0)
    images, sigma = rng.uniform(-1, 1, (6, 16)), np.array([0.5, 1.0, 4.0])
    z = images[:3] + sigma[:, None] * rng.normal(size=(3, 16))
    log = -((z[:, None] - images) ** 2).sum(2) / (2 * sigma[:, None] ** 2)
    p = np.exp(log - log.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    mean = p @ images
    variance = (p @ images**2 - mean**2).mean(1)
    prediction, u = rng.normal(size=(3, 16)), np.array([-0.3, 0.1, 0.7])
    weight = (sigma**2 + 0.25) / (0.5 * sigma) ** 2
    published = weight[:, None] / np.exp(u)[:, None] * ((prediction[:, None] - images) ** 2).mean(2) + u[:, None]
    arguments = [torch.from_numpy(a) for a in (prediction, mean, variance, sigma, u)]
    np.testing.assert_allclose(edm2_loss(*arguments, 0.5), 16 * (p * published).sum(1))


def test_the_learned_uncertainty_finds_the_size_of_the_error() -> None:
    torch.manual_seed(0)
    u = Uncertainty(64)
    optimiser = torch.optim.Adam(u.parameters(), lr=0.1)
    time = torch.linspace(-1, 1, 64)
    error = (1 + time) ** 2 + 0.1
    for _ in range(120):
        optimiser.zero_grad()
        (error / u(time).exp() + u(time)).mean().backward()
        optimiser.step()
    torch.testing.assert_close(u(time).exp(), error, rtol=0.15, atol=0.05)
    assert EDM2Loss(channels=7).learned().weight.shape == (7,)


def test_the_decay_of_cts_teacher_is_that_of_the_paper() -> None:
    """mu(k) = exp(s0 ln(mu0) / N(k)), Song et al. 2023, App. C; N(0) = s0, N(K) = s1 + 1."""
    noise = CTNoise(s0=2, s1=150, total_steps=1000, batch_size=8)
    assert noise.grid_size(np.array([0, 1000, 5000])).tolist() == [2, 151, 151]
    teacher = CTLoss(mu0=0.9).teacher(noise)
    assert teacher.decay_at(8, 8) == pytest.approx(0.9)  # after step 0
    assert teacher.decay_at(8 * 1001, 8) == pytest.approx(0.9 ** (2 / 151))
    with pytest.raises(ConfigError, match="got noise ict"):
        CTLoss().teacher(ICTNoise())
    with pytest.raises(ConfigError, match="lpips-weights"):
        CTLoss(distance="lpips")


class ExactConsistency(nn.Module):
    """TrigFlow's F of the exact consistency function of Gaussian data, f = s z / sqrt(s^2 + sigma^2), plus `offset`."""

    def __init__(self, offset: float = 0.0) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.tensor(offset))

    def forward(self, x, time, class_labels=None, second_time=None):
        x_t, t = 0.5 * x, time[:, None, None, None]
        f = SPREAD * x_t / (SPREAD**2 * t.cos() ** 2 + 0.25 * t.sin() ** 2).sqrt()
        return (t.cos() * x_t - f) / (0.5 * t.sin()) + self.offset * (3 * x + t).sin()


def test_scm_keeps_the_exact_consistency_function_by_the_marginal_velocity_alone() -> None:
    batch = gaussian_batch([0.05, 0.5, 4.0, 60.0])
    denoiser = Denoiser(ExactConsistency(), TrigFlowPreconditioning())
    exact = SCMLoss(channels=0)(denoiser, denoiser, batch).detach()
    assert float(exact.max()) < 1e-6
    conditional = SCMLoss(channels=0)(denoiser, denoiser, replace(batch, mean=batch.x))  # the published sCT
    assert float(conditional.detach().min()) > 1e-3  # its expectation is right, each tuple is not


def test_scm_tangent_is_the_derivative_of_the_consistency_function_along_the_flow() -> None:
    batch = gaussian_batch([0.1, 0.7, 3.0])
    denoiser = Denoiser(ExactConsistency(offset=0.3), TrigFlowPreconditioning())
    with torch.no_grad():
        f, tangent = SCMLoss()._frozen_and_tangent(denoiser, batch)
        torch.testing.assert_close(f, denoiser(batch.z, batch.sigma, raw=True))
        t, h = denoiser.preconditioning.time(batch.sigma), 1e-2
        slope = (t.cos()[:, None, None, None] ** 2 * batch.z - batch.mean) / t.sin()[:, None, None, None]
        ends = []
        for sign in (1, -1):
            x_t = t.cos()[:, None, None, None] * batch.z + sign * h * slope
            moved = t + sign * h
            ends.append(denoiser(x_t / moved.cos()[:, None, None, None], 0.5 * moved.tan()))
    difference = t.cos()[:, None, None, None] * (ends[0] - ends[1]) / (2 * h)
    torch.testing.assert_close(tangent, difference, rtol=2e-2, atol=2e-3)
    assert float(normalised(tangent, 0.1).flatten(1).norm(dim=1).max()) < 1


def test_scm_warms_its_tangent_up_and_weighs_by_what_it_learns() -> None:
    batch = gaussian_batch([0.1, 0.7, 3.0])
    loss = SCMLoss(warmup_kimg=1.0, channels=8)
    denoiser = Denoiser(ExactConsistency(offset=0.3), TrigFlowPreconditioning(), loss.learned())
    parts = [loss._frozen_and_tangent(denoiser, replace(batch, tuple_id=batch.tuple_id + n))[1] for n in (0, 499, 999)]
    torch.testing.assert_close(parts[1] - parts[0], (parts[2] - parts[0]) * 499 / 999, rtol=1e-3, atol=1e-5)
    assert denoiser.learned is not None
    with torch.no_grad():
        denoiser.learned.weight.normal_()
        w = denoiser.learned(denoiser.preconditioning.time(batch.sigma))
    plain = Denoiser(denoiser.network, denoiser.preconditioning)
    error = loss(plain, plain, batch)
    torch.testing.assert_close(loss(denoiser, denoiser, batch), w.exp() * error - 16 * w)


class ExactMeanVelocity(nn.Module):
    """u(z_t, r, t) = (z_t - z_r) / (t - r) of Gaussian data: z_r = z_t q(r) / q(t), q(t)^2 = (1 - t)^2 s^2 + t^2."""

    second_time = True

    def forward(self, x, time, class_labels=None, second_time=None):
        t, step = (each[:, None, None, None] for each in (time, second_time))
        return x * (1 - self.spread(t - step) / self.spread(t)) / step

    @staticmethod
    def spread(t: torch.Tensor) -> torch.Tensor:
        return ((1 - t) ** 2 * SPREAD**2 + t**2).sqrt()


def test_meanflow_keeps_the_exact_mean_velocity() -> None:
    batch = gaussian_batch([0.5, 1.0, 4.0, 30.0], [0.02, 0.3, 0.5, 0.01])
    denoiser = Denoiser(ExactMeanVelocity(), FlowPreconditioning())
    assert float(MeanFlowLoss(p=0.0)(denoiser, denoiser, batch).detach().max()) < 1e-5
    conditional = MeanFlowLoss(p=0.0)(denoiser, denoiser, replace(batch, mean=batch.x))
    assert float(conditional.detach().min()) > 1e-2
    z_0 = SPREAD * batch.z / (SPREAD**2 + batch.sigma**2).sqrt()[:, None, None, None]
    torch.testing.assert_close(denoiser(batch.z, batch.sigma), z_0, rtol=1e-4, atol=1e-5)  # one step to r = 0


def test_meanflow_with_equal_times_is_flow_matching_and_its_weight_is_adaptive() -> None:
    batch = gaussian_batch([0.5, 1.0, 4.0], [0.5, 1.0, 4.0])
    denoiser = Denoiser(Constant(torch.randn(3, *SHAPE)), FlowPreconditioning())
    flow = FlowLoss()(denoiser, denoiser, batch)
    torch.testing.assert_close(MeanFlowLoss(p=0.0)(denoiser, denoiser, batch), flow)
    torch.testing.assert_close(MeanFlowLoss(p=0.75, c=1e-3)(denoiser, denoiser, batch), flow / (flow + 1e-3) ** 0.75)
    published = MeanFlowLoss(p=0.0)(denoiser, denoiser, replace(batch, mean=batch.x))
    expected = (denoiser.network.given - (batch.eps - batch.x)).square().flatten(1).sum(1)
    torch.testing.assert_close(published, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_the_dial_gives_conditional_marginal_or_mixed_velocity(beta: float) -> None:
    for name in ("scm-cifar10", "meanflow-cifar10", "flow-cifar10"):
        assert replace(PRESETS[name], dial=Dial(beta=(beta,))).dial.beta == (beta,)
    batch = gaussian_batch([0.5, 1.0, 4.0], [0.1, 0.4, 0.5])
    x, eps, dialled = batch.x, batch.eps, replace(batch, mean=Dial(beta=(beta,)).target(batch))
    marginal = (batch.z - batch.mean) / batch.sigma[:, None, None, None] - batch.mean
    velocity = (1 - beta) * (eps - x) + beta * marginal
    torch.testing.assert_close(marginal_velocity(dialled), velocity, rtol=1e-4, atol=1e-5)
    meanflow = Denoiser(ExactMeanVelocity(), FlowPreconditioning())
    aims = [MeanFlowLoss()._aim(meanflow, replace(batch, mean=mean)) for mean in (x, batch.mean, dialled.mean)]
    torch.testing.assert_close(aims[2], (1 - beta) * aims[0] + beta * aims[1], rtol=1e-4, atol=1e-4)
    scm = Denoiser(ExactConsistency(offset=0.3), TrigFlowPreconditioning())
    with torch.no_grad():
        tangents = [
            SCMLoss()._frozen_and_tangent(scm, replace(batch, mean=mean))[1] for mean in (x, batch.mean, dialled.mean)
        ]
    torch.testing.assert_close(tangents[2], (1 - beta) * tangents[0] + beta * tangents[1], rtol=1e-4, atol=1e-4)


SMALL = dict(channels=8, channel_mult=(1, 2), layers_per_block=1, attention_resolutions=(4,))


@pytest.mark.parametrize(
    "loss, network, preconditioning",
    [
        (SCMLoss(), UNet2DNetwork(**SMALL, dropout=0.3), TrigFlowPreconditioning()),
        (SCMLoss(), DDPMppNetwork(**SMALL, dropout=0.3), TrigFlowPreconditioning()),
        (MeanFlowLoss(), DDPMppNetwork(**SMALL, dropout=0.3, second_time=True), FlowPreconditioning()),
    ],
    ids=["scm-unet2d", "scm-ddpm++", "meanflow"],
)
def test_real_networks_have_the_derivative_and_get_gradients(loss, network, preconditioning) -> None:
    torch.manual_seed(0)
    module = network.build((1, 8, 8), 0)
    for parameter in module.parameters():  # not the initial zeros
        nn.init.normal_(parameter, std=0.1)
    denoiser = Denoiser(module, preconditioning, loss.learned()).train()
    x = torch.rand(2, 1, 8, 8)
    levels = torch.tensor([0.3, 2.0])
    batch = batch_of(x + levels[:, None, None, None], levels, 0.5 * levels, x)
    loss(denoiser, denoiser, batch).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in denoiser.parameters())
    # student and target with the same dropout masks: equal but for the tangent, of norm below 1
    if isinstance(loss, SCMLoss):
        assert float(SCMLoss(channels=0)(denoiser, denoiser, batch).detach().max()) < 1


@pytest.mark.slow
def test_lpips_is_the_weighted_distance_of_vgg_features(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    features = torchvision.models.vgg16(weights=None).features
    slices, state = ((0, 4), (4, 9), (9, 16), (16, 23), (23, 30)), {}
    for number, (first, stop) in enumerate(slices, 1):
        for layer in range(first, stop):
            for name, value in features[layer].named_parameters():
                state[f"net.slice{number}.{layer}.{name}"] = value.detach()
        width = (64, 128, 256, 512, 512)[number - 1]
        state[f"lin{number - 1}.model.1.weight"] = torch.rand(1, width, 1, 1)
    save_file(state, tmp_path / "lpips.safetensors")
    distance = lpips_of(tmp_path / "lpips.safetensors", torch.device("cpu"))
    assert isinstance(distance, LPIPS)
    a, b = torch.rand(2, 1, 3, 224, 224) * 2 - 1
    expected, shown = 0.0, []
    with torch.no_grad():
        shift, scale = (torch.tensor(v)[:, None, None] for v in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))
        both = [(a - shift) / scale, (b - shift) / scale]
        for number, (first, stop) in enumerate(slices):
            both = [features[first:stop](image) for image in both]
            unit = [f / f.square().sum(1, keepdim=True).sqrt() for f in both]
            weight = state[f"lin{number}.model.1.weight"]
            shown.append((weight * (unit[0] - unit[1]) ** 2).sum(1).mean())
        expected = sum(shown)
        torch.testing.assert_close(distance(a, b)[0], expected, rtol=1e-4, atol=1e-6)
        batch = batch_of(a, torch.tensor([2.0]), torch.tensor([0.0]), b)  # the teacher point is the mean, b
        loss = CTLoss(distance="lpips", lpips_weights=str(tmp_path / "lpips.safetensors"))
        skips = Denoiser(Constant(torch.zeros(1)), CMPreconditioning(sigma_min=1e-6))
        student = skips(a, batch.sigma)
        torch.testing.assert_close(loss(skips, skips, batch), a[0].numel() * distance(student, b), rtol=1e-4, atol=1e-4)
    with pytest.raises(DataError, match="not the weights of LPIPS"):
        lpips_of(tmp_path / "none.safetensors", torch.device("cpu"))
