"""A trained denoiser is called as k-diffusion and EDM call theirs: their Heun samplers draw our images from it."""

from itertools import pairwise
from typing import Any

import pytest
import torch

from postmean.training.model.networks import DDPMppNetwork
from postmean.training.model.preconditioning import Denoiser
from postmean.training.model.preconditionings import EDMPreconditioning, FlowPreconditioning
from postmean.training.model.sampling import HeunSampler, Noise

SHAPE, STEPS = (1, 8, 8), 6


def k_diffusion_heun(model: Any, x: torch.Tensor, sigmas: torch.Tensor, extra_args: dict[str, Any]) -> torch.Tensor:
    """`k_diffusion.sampling.sample_heun` without churn."""
    s_in = x.new_ones([x.shape[0]])
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i] * s_in, **extra_args)
        d = (x - denoised) / sigmas[i]
        dt = sigmas[i + 1] - sigmas[i]
        if sigmas[i + 1] == 0:
            x = x + d * dt
        else:
            x_2 = x + d * dt
            denoised_2 = model(x_2, sigmas[i + 1] * s_in, **extra_args)
            d_2 = (x_2 - denoised_2) / sigmas[i + 1]
            x = x + (d + d_2) / 2 * dt
    return x


def edm_heun(net: Any, latents: torch.Tensor, t_steps: torch.Tensor, class_labels: torch.Tensor) -> torch.Tensor:
    """`edm_sampler` of EDM's generate.py without churn: the noise level is one number."""
    x_next = latents.to(torch.float64) * t_steps[0]
    for i, (t_cur, t_next) in enumerate(pairwise(t_steps)):
        x_cur = x_next
        denoised = net(x_cur, t_cur, class_labels).to(torch.float64)
        d_cur = (x_cur - denoised) / t_cur
        x_next = x_cur + (t_next - t_cur) * d_cur
        if i < len(t_steps) - 2:
            denoised = net(x_next, t_next, class_labels).to(torch.float64)
            d_prime = (x_next - denoised) / t_next
            x_next = x_cur + (t_next - t_cur) * (0.5 * d_cur + 0.5 * d_prime)
    return x_next


@torch.no_grad()
@pytest.mark.parametrize("preconditioning", [EDMPreconditioning(), FlowPreconditioning()])
def test_their_samplers_draw_our_images(preconditioning: Any) -> None:
    torch.manual_seed(0)
    settings = DDPMppNetwork(channels=8, channel_mult=(1,), layers_per_block=1, attention_resolutions=())
    network = settings.build(SHAPE, 3)
    for weight in network.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.05)  # else the output is 0
    denoiser, label = Denoiser(network, preconditioning).eval(), torch.tensor([0, 2])
    sampler = HeunSampler(steps=STEPS)
    ours = sampler.sample(denoiser, Noise(0, range(2), SHAPE, "cpu"), label)
    latents = Noise(0, range(2), SHAPE, "cpu").draw()
    levels = torch.tensor([*sampler.levels, 0.0], dtype=torch.float64)
    assert ours.std() > 0.01
    torch.testing.assert_close(edm_heun(denoiser, latents, levels, label), ours, rtol=1e-6, atol=1e-6)
    theirs = k_diffusion_heun(denoiser, levels[0] * latents, levels, {"label": label})
    torch.testing.assert_close(theirs, ours, rtol=1e-6, atol=1e-6)
