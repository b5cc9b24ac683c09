"""diffusers' own schedulers and pipelines sample from our checkpoints as our samplers do, where they can at all.

Each test imports what it needs of diffusers: all of it takes seconds, in every process that collects the tests.
"""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from postmean.contract.process import EDMProcess
from postmean.training.checkpoint import AveragedDenoiser, DenoiserCard, load_denoiser, save_checkpoint
from postmean.training.diffusers_export import export_of
from postmean.training.model.networks import DDPMppNetwork, UNet2DNetwork
from postmean.training.model.preconditionings import (
    AnyPreconditioning,
    EDMPreconditioning,
    FlowPreconditioning,
    TrigFlowPreconditioning,
)
from postmean.training.model.sampling import ConsistencySampler, HeunSampler, Noise
from postmean.training.presets import PRESETS

SHAPE = (3, 8, 8)  # diffusers' pipeline takes only 3 channels
NETWORK = UNet2DNetwork(channels=8, channel_mult=(1,), layers_per_block=1, attention_resolutions=())


def card_of(preconditioning: AnyPreconditioning, consistency: bool) -> DenoiserCard:
    return DenoiserCard(
        preconditioning=preconditioning,
        time_conditioning=preconditioning.time_conditioning,
        consistency=consistency,
        process=EDMProcess(),
        image_shape=SHAPE,
        classes=0,
        images_seen=0,
    )


def saved(folder: Path, preconditioning: AnyPreconditioning, consistency: bool) -> Path:
    """A checkpoint with random weights."""
    torch.manual_seed(0)
    network = NETWORK.build(SHAPE, 0)
    for weight in network.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.05)  # else the output is 0
    averaged = AveragedDenoiser(network=network, settings=NETWORK, card=card_of(preconditioning, consistency))
    raw = {"raw": torch.zeros(1)}
    return save_checkpoint(folder, averaged, raw, {"step": 1, "next_tuple": 1}, keep=1)


def noise() -> Noise:
    return Noise(0, range(2), SHAPE, "cpu")


def drawn_by(pipeline: Any, steps: int) -> torch.Tensor:
    """The pipeline's images from our first noise, in [0, 1]."""
    pipeline.set_progress_bar_config(disable=True)
    latents = 80 * noise().draw() / pipeline.scheduler.init_noise_sigma  # (80^2 + 1)^0.5, ours begins at 80
    return pipeline(
        batch_size=2, num_inference_steps=steps, latents=latents.float(), output_type="pt", return_dict=False
    )[0]


def shown(x: torch.Tensor) -> torch.Tensor:
    return (x / 2 + 0.5).clamp(0, 1).float()


@torch.no_grad()
def test_edm_s_pipeline_follows_the_same_ode(tmp_path: Path) -> None:
    from diffusers import ConsistencyModelPipeline, EDMEulerScheduler

    checkpoint = saved(tmp_path, EDMPreconditioning(), consistency=False)
    ours = load_denoiser(checkpoint)
    pipeline = ConsistencyModelPipeline.from_pretrained(checkpoint, low_cpu_mem_usage=False)
    heun = HeunSampler(steps=60).sample(ours, noise(), None)
    torch.testing.assert_close(drawn_by(pipeline, 60), shown(heun), rtol=0, atol=5e-3)

    pipeline.scheduler = EDMEulerScheduler.from_config(pipeline.scheduler.config)
    levels = [*HeunSampler(steps=5).levels, 0.0]
    z = levels[0] * noise().draw()
    for sigma, sigma_next in pairwise(levels):
        slope = (z - ours(z, torch.full((2,), sigma))) / sigma
        z = z + (sigma_next - sigma) * slope
    torch.testing.assert_close(drawn_by(pipeline, 5), shown(z), rtol=0, atol=1e-4)
    assert shown(z).std() > 0.01 and (shown(z) - shown(heun)).abs().max() > 1e-3


@torch.no_grad()
def test_ect_s_pipeline_samples_in_one_step(tmp_path: Path) -> None:
    from diffusers import ConsistencyModelPipeline

    checkpoint = saved(tmp_path, EDMPreconditioning(), consistency=True)
    pipeline = ConsistencyModelPipeline.from_pretrained(checkpoint, low_cpu_mem_usage=False)
    ours = ConsistencySampler(sigmas=(80.0,)).sample(load_denoiser(checkpoint), noise(), None)
    torch.testing.assert_close(drawn_by(pipeline, 1), shown(ours), rtol=0, atol=1e-4)


@torch.no_grad()
def test_flow_s_scheduler_takes_the_same_steps(tmp_path: Path) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    checkpoint = saved(tmp_path, FlowPreconditioning(), consistency=False)
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(checkpoint, subfolder="scheduler")
    unet, ours = unet_of(checkpoint), load_denoiser(checkpoint)
    times = [0.98, 0.8, 0.5, 0.2]
    levels = [t / (1 - t) for t in times] + [0.0]
    z = levels[0] * noise().draw().float()
    z_t = (1 - times[0]) * z
    scheduler.set_timesteps(sigmas=times)
    for t in scheduler.timesteps:
        z_t = scheduler.step(unet(z_t, t).sample, t, z_t).prev_sample
    for sigma, sigma_next in pairwise(levels):
        z = z + (sigma_next - sigma) * (z - ours(z, torch.full((2,), sigma))) / sigma
    torch.testing.assert_close(z_t, z, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_scm_s_scheduler_samples_in_one_step(tmp_path: Path) -> None:
    from diffusers import SCMScheduler

    checkpoint = saved(tmp_path, TrigFlowPreconditioning(), consistency=True)
    scheduler = SCMScheduler.from_pretrained(checkpoint, subfolder="scheduler")
    data = scheduler.config.sigma_data
    scheduler.set_timesteps(1, max_timesteps=math.atan(80 / data), intermediate_timesteps=None)
    (t, _), unet = scheduler.timesteps, unet_of(checkpoint)
    x_t = data * t.sin() * noise().draw().float()
    theirs = scheduler.step(data * unet(x_t / data, t).sample, t, x_t).prev_sample
    ours = ConsistencySampler(sigmas=(80.0,)).sample(load_denoiser(checkpoint), noise(), None).float()
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)


def unet_of(checkpoint: Path) -> torch.nn.Module:
    from diffusers import UNet2DModel

    return UNet2DModel.from_pretrained(checkpoint / "unet", low_cpu_mem_usage=False).eval()


@pytest.mark.parametrize(
    "preset, said",
    [
        ("edm-digits", "ConsistencyModelPipeline, with EDMDPMSolverMultistepScheduler, any number of steps"),
        ("ect-digits", "ConsistencyModelPipeline, with EDMEulerScheduler, one step"),
        ("ict-digits", "ConsistencyModelPipeline, with CMStochasticIterativeScheduler, any number of steps"),
        ("flow-digits", "UNet2DModel, in a loop of your own, with FlowMatchEulerDiscreteScheduler"),
        ("scm-digits", "UNet2DModel, in a loop of your own, with SCMScheduler"),
        ("ict-cifar10", "UNet2DModel alone: diffusers' consistency scheduler gives the network 250 ln sigma"),
        ("meanflow-digits", "UNet2DModel alone: diffusers has no scheduler for a consistency model with flow"),
    ],
)
def test_what_diffusers_can_do_is_said_in_a_line(preset: str, said: str) -> None:
    config = PRESETS[preset]
    card = card_of(config.preconditioning, config.loss.is_consistency)
    assert str(export_of(card, has_unet=True)).startswith(said)
    assert str(export_of(card, has_unet=False)).startswith("none: its network is not diffusers'")


def test_a_checkpoint_without_a_scheduler_has_no_pipeline(tmp_path: Path) -> None:
    card = card_of(EDMPreconditioning(), consistency=False)
    settings = DDPMppNetwork(channels=8, channel_mult=(1,), layers_per_block=1, attention_resolutions=())
    averaged = AveragedDenoiser(network=settings.build(SHAPE, 0), settings=settings, card=card)
    checkpoint = save_checkpoint(tmp_path, averaged, {"raw": torch.zeros(1)}, {"step": 1, "next_tuple": 1}, keep=1)
    assert not (checkpoint / "model_index.json").exists() and not (checkpoint / "scheduler").exists()
