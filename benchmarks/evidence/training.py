"""One training: tuples and targets as arrays, a small network in our `Denoiser`, our losses."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from cells import Cell
from data import DataSet
from measures import SIGMA_MAX
from torch import nn

from postmean.contract.noise import AnyNoise, ECTNoise, FloorNoise, ICTNoise, LogitNormalTimeNoise, LogNormalNoise
from postmean.contract.noise.floor import floor_noise
from postmean.contract.noisy import noisy
from postmean.contract.process import EDMProcess, FlowMatchingProcess
from postmean.contract.settings import EstimatorSettings
from postmean.contract.teacher_path import path_mean
from postmean.contract.tuples import TupleSource
from postmean.engine.population import Population
from postmean.estimators.choose import make_estimator
from postmean.estimators.estimate import Queries
from postmean.report.floor import FloorSettings, floor_curve
from postmean.runs.verify_sample import joined
from postmean.training.config import TrainConfig
from postmean.training.dial import Dial
from postmean.training.model.preconditioning import Denoiser
from postmean.training.presets import PRESETS
from postmean.training.stream.batch import TargetBatch

AVERAGE = 0.995
"""Decay of the average of the weights."""


class Network(nn.Module):
    """A residual MLP with Fourier features of ln sigma, called as the networks of postmean are."""

    def __init__(self, shape: tuple[int, int, int], width: int, time_scale: float) -> None:
        super().__init__()
        dim = int(np.prod(shape))
        self.time_scale = time_scale
        self.register_buffer("frequency", torch.tensor(np.geomspace(0.2, 4.0, 8), dtype=torch.float32))
        self.first = nn.Linear(dim + 17, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.last = nn.Linear(width, dim)
        nn.init.zeros_(self.last.weight)

    def forward(self, z: torch.Tensor, time: torch.Tensor, class_labels: torch.Tensor | None = None) -> torch.Tensor:
        level = time[:, None] / self.time_scale
        phase = level * self.frequency
        h = self.first(torch.cat([z.flatten(1), level / 4, phase.sin(), phase.cos()], 1))
        for block in self.blocks:
            h = h + block(nn.functional.silu(h))
        return self.last(nn.functional.silu(h)).reshape(z.shape)


@dataclass(frozen=True)
class Tuples:
    """The tuples of one seed and recipe, the same for every target."""

    config: TrainConfig
    batch: TargetBatch
    """All of them; its mean is x"""
    source: np.ndarray
    draws: Callable[[int], np.random.Generator]


def make_tuples(data: DataSet, cell: Cell) -> Tuples:
    """x, eps and sigma of every step of a cell."""
    preset, count, noises = PRESETS[cell.recipe], cell.steps * cell.batch, _noises(data, cell)
    process = FlowMatchingProcess() if cell.recipe == "flow" else EDMProcess()
    sources = [
        TupleSource(seed=cell.seed, images=len(data.store), flips=False, noise=noise, process=process)
        for noise in noises
    ]
    source, each = sources[-1], -(-count // len(sources))
    block = joined([s.block(i * each, min((i + 1) * each, count)) for i, s in enumerate(sources)])
    x, eps, z = (torch.from_numpy(a) for a in noisy(source, data.store, block))
    sigma = torch.from_numpy(block.sigma)
    batch = TargetBatch(
        tuple_id=torch.arange(count),
        z=z,
        sigma=sigma,
        sigma_next=None if block.sigma_next is None else torch.from_numpy(block.sigma_next),
        x=x,
        eps=eps,
        mean=x,
        mean_next=None,
        label=None,
        certified=torch.zeros(count, dtype=torch.bool),
        ess=torch.ones(count),
        variance=torch.zeros(count),
        top_weight=torch.ones(count),
    )
    solver = cell.target if cell.substeps else "euler"
    recipe = replace(preset.recipe, noise=noises[-1], process=process, solver=solver)
    config = replace(preset, recipe=recipe, batch_size=cell.batch, steps=cell.steps)
    return Tuples(config, batch, block.entry, source.draws)


def _noises(data: DataSet, cell: Cell) -> list[AnyNoise]:
    """The noise of each part of the training; the parts have equal lengths."""
    if cell.noise == "floor":
        return [_floor(data)]
    if cell.noise == "to 0":  # with q = 1 the gap is more than sigma
        return [ECTNoise(q=1 + 1e-9)]
    if cell.noise == "18 levels":
        return [_fixed_grid(cell, 17, 80.0)]
    if cell.noise == "8 4 2 1":
        return [_fixed_grid(cell, steps, SIGMA_MAX) for steps in (8, 4, 2, 1)]
    own: dict[str, AnyNoise] = {
        "edm": LogNormalNoise(),
        "flow": LogitNormalTimeNoise(),
        "ict": ICTNoise(total_steps=cell.steps, batch_size=cell.batch, s0=10, s1=160),
        "ect": ECTNoise(q=4.0, stage_tuples=cell.steps * cell.batch // 4),
    }
    return [own[cell.recipe]]


def _fixed_grid(cell: Cell, steps: int, sigma_max: float) -> ICTNoise:
    return ICTNoise(total_steps=cell.steps, batch_size=cell.batch, s0=steps, s1=steps, sigma_max=sigma_max)


def _floor(data: DataSet) -> FloorNoise:
    sigmas = tuple(np.geomspace(0.02, 80, 25).tolist())
    points = floor_curve(data.store, FloorSettings(sigmas=sigmas))
    return floor_noise(np.array(sigmas), np.array([point.floor for point in points]), data.store.dim)


def with_target(data: DataSet, tuples: Tuples, cell: Cell) -> TargetBatch:
    """The tuples with the means of the cell's estimator, dialled by its beta."""
    if cell.target == "single":
        return tuples.batch
    population = Population(data.store, False)
    settings = EstimatorSettings(name="exact" if cell.substeps else cell.target, k=cell.k, n=cell.n)
    estimator = make_estimator(settings, population, 0)
    batch, z, sigma = tuples.batch, tuples.batch.z.flatten(1).numpy(), tuples.batch.sigma.double().numpy()

    def mean_at(rows: np.ndarray, z: np.ndarray, sigma: np.ndarray, number: int) -> np.ndarray:
        means, order = np.empty_like(z), np.argsort(sigma, kind="stable")
        for start in range(0, len(rows), 4096):
            part = order[start : start + 4096]
            queries = Queries(
                torch.from_numpy(z[part].astype(np.float32)),
                sigma[part],
                population.member(tuples.source[rows[part]]),
                lambda row, part=part: tuples.draws(int(rows[part[row]])),
                np.full(len(part), number == 0),
            )
            means[part] = estimator.estimate(queries).mean
        return means

    if cell.substeps:
        assert batch.sigma_next is not None
        means = path_mean(z, sigma, batch.sigma_next.double().numpy(), cell.substeps, mean_at)[0]
    else:
        means = mean_at(np.arange(len(batch)), z, sigma, 0)
    batch = replace(batch, mean=torch.from_numpy(means.astype(np.float32)).reshape(batch.x.shape))
    return replace(batch, mean=Dial(beta=(cell.beta,)).target(batch))


def new_denoiser(data: DataSet, config: TrainConfig, cell: Cell) -> Denoiser:
    """The network before training: the same for every target of a seed."""
    torch.manual_seed(cell.seed)
    scale = 250.0 if config.preconditioning.time_conditioning == "250 ln sigma" else 0.25
    return Denoiser(Network(data.shape, cell.width, scale), config.preconditioning)


def train(
    data: DataSet, config: TrainConfig, batch: TargetBatch, cell: Cell, watch: Callable[[int, Denoiser, Denoiser], None]
) -> None:
    """Adam, with a rate that falls from 2e-3, on the cell's loss.

    Args:
        watch: called after each step with the steps done, the denoiser and the one with averaged weights.
    """
    denoiser, average = new_denoiser(data, config, cell), new_denoiser(data, config, cell)
    optimiser = torch.optim.Adam(denoiser.parameters(), lr=2e-3)
    for step in range(cell.steps):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 50) * (1 - step / cell.steps) ** 0.5
        part = batch.rows(step * cell.batch, (step + 1) * cell.batch)
        optimiser.zero_grad()
        config.loss(denoiser, denoiser, part).mean().backward()
        nn.utils.clip_grad_norm_(denoiser.parameters(), 1e3)
        optimiser.step()
        decay = min(AVERAGE, (step + 1) / (step + 10))
        with torch.no_grad():
            for mean, weight in zip(average.parameters(), denoiser.parameters(), strict=True):
                mean.lerp_(weight, 1 - decay)
        watch(step + 1, denoiser, average)


def gradient_trace(config: TrainConfig, denoiser: Denoiser, batch: TargetBatch, size: int, count: int) -> float:
    """Trace of the covariance of the gradient of a batch of `size` tuples, from the first `count` batches."""
    total, squares = 0.0, 0.0
    for start in range(0, count * size, size):
        part = batch.rows(start, start + size)
        gradients = torch.autograd.grad(config.loss(denoiser, denoiser, part).mean(), list(denoiser.parameters()))
        flat = torch.cat([g.flatten() for g in gradients]).double()
        total, squares = total + flat, squares + float(flat @ flat)
    return (squares - float(total @ total) / count) / (count - 1)
