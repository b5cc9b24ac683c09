"""One training step on a GPU, of torch's own layers: loss, gradients, optimiser and average are those of `train`."""

import statistics
import time

import torch
from torch import nn

from postmean.training.model.ema.averaged_network import AveragedNetwork
from postmean.training.model.losses.edm import EDMLoss
from postmean.training.model.preconditioning import Denoiser
from postmean.training.model.preconditionings import EDMPreconditioning
from postmean.training.optimiser import OptimiserConfig
from postmean.training.stream.batch import TargetBatch

_STEPS = 24  # on the same batch: enough for its loss to fall


class ResidualNetwork(nn.Module):
    """Residual blocks of two 3x3 convolutions at full resolution, called as diffusers calls its networks."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
        self.time = nn.ModuleList(nn.Linear(1, width) for _ in range(blocks))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(8, width),
                nn.SiLU(),
                nn.Conv2d(width, width, 3, padding=1),
                nn.GroupNorm(8, width),
                nn.SiLU(),
                nn.Conv2d(width, width, 3, padding=1),
            )
            for _ in range(blocks)
        )

    def forward(
        self, z: torch.Tensor, time: torch.Tensor, class_labels: None = None, return_dict: bool = False
    ) -> tuple[torch.Tensor]:
        h = self.first(z)
        for block, embed in zip(self.blocks, self.time, strict=True):
            h = h + block(h + embed(time[:, None])[:, :, None, None])
        return (self.last(h),)


def training_step(device: str, batch: int = 64, width: int = 192, blocks: int = 8, side: int = 64) -> dict:
    """Seconds of a step in bfloat16, and its operations per second; the loss must be finite and fall."""
    torch.manual_seed(0)
    denoiser = Denoiser(ResidualNetwork(width, blocks), EDMPreconditioning()).to(device).train()
    average = AveragedNetwork(denoiser.network)
    optimiser = OptimiserConfig(name="adam", lr=1e-4).make(denoiser.parameters())
    targets, loss, seconds, losses = a_batch(batch, side).to(device), EDMLoss(), [], []
    for _ in range(_STEPS):
        wait(device)
        began = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16):
            total = loss(denoiser, denoiser, targets).mean()
        total.backward()
        optimiser.step()
        average.update(denoiser.network, 0.999)
        wait(device)
        seconds.append(time.perf_counter() - began)
        losses.append(float(total.detach()))
    taken = statistics.median(seconds[2:])
    operations = 3 * 2 * 9 * width**2 * 2 * blocks * side**2 * batch  # forward, and twice that backward
    return {
        "batch": batch,
        "parameters": sum(p.numel() for p in denoiser.parameters()),
        "seconds": taken,
        "images_per_s": batch / taken,
        "operations_per_s": operations / taken,
        "loss_falls": losses[-1] < losses[0],
    }


def a_batch(count: int, side: int) -> TargetBatch:
    """Smooth random images with noise of EDM's levels, on the host."""
    x = torch.nn.functional.interpolate(torch.rand(count, 3, 4, 4) * 2 - 1, size=side, mode="bilinear")
    eps, sigma = torch.randn_like(x), torch.exp(1.2 * torch.randn(count) - 1.2)
    number, certified = torch.arange(count), torch.ones(count, dtype=torch.bool)
    one = torch.ones(count)
    return TargetBatch(
        tuple_id=number,
        z=x + sigma[:, None, None, None] * eps,
        sigma=sigma,
        sigma_next=None,
        x=x,
        eps=eps,
        mean=x,
        mean_next=None,
        label=None,
        certified=certified,
        ess=one,
        variance=0 * one,
        top_weight=one,
    )


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
