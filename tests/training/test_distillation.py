"""Training on far teacher points: targets of sub-steps make progressive and consistency distillation of the losses."""

import dataclasses
from pathlib import Path

import pytest
import torch

from postmean.base.errors import ConfigError, MismatchError
from postmean.contract.noise import ICTNoise
from postmean.contract.recipe import TargetRecipe
from postmean.training.config import TrainConfig
from postmean.training.dial import Dial
from postmean.training.model.losses import CTLoss, EDM2Loss, EDMLoss, ICTLoss, MeanFlowLoss
from postmean.training.model.losses.loss import teacher_point
from postmean.training.model.preconditionings import EDMPreconditioning, FlowPreconditioning
from postmean.training.model.sampler_config import SamplerConfig
from postmean.training.model.sampling import EulerSampler, Noise, make_sampler
from postmean.training.presets import PRESETS
from postmean.training.stream.stream import TargetStream
from tests.support.runs import indexed_store, make_by_hand
from tests.support.settings import generate_config

NOISE = ICTNoise(batch_size=16, total_steps=1, s0=4, s1=4)
ICT = dataclasses.replace(
    PRESETS["ict-digits"], recipe=TargetRecipe(noise=NOISE, solver="heun-4"), batch_size=16, steps=3
)
PROGRESSIVE = dict(loss=EDMLoss(), preconditioning=EDMPreconditioning())


def test_targets_serve_both_distillations_and_no_other_teacher_point(tmp_path: Path) -> None:
    store = indexed_store(tmp_path / "store", 60)
    path = tmp_path / "targets"
    made = make_by_hand(generate_config(store, path, tuples=48, noise=NOISE, solver="heun-4")).read_manifest().recipe
    for config in (ICT, dataclasses.replace(ICT, **PROGRESSIVE)):
        (batch, *_) = list(TargetStream.open(path, store, 16, recipe=config.recipe))
        assert batch.mean_next is None and batch.sigma_next is not None and not batch.certified.all()
        point = teacher_point(batch.z, batch.sigma, batch.sigma_next, batch.mean)
        # the definition of the x-target, Salimans & Ho 2022, App. G, with alpha = 1
        ratio = (batch.sigma_next / batch.sigma)[:, None, None, None]
        assert torch.allclose((point - ratio * batch.z) / (1 - ratio), batch.mean, atol=1e-4)
    for solver in ("euler", "heun", "heun-2"):
        with pytest.raises(MismatchError, match=f"solver is 'heun-4' in the targets, '{solver}' in the trainer"):
            TargetStream.open(path, store, 16, recipe=dataclasses.replace(made, solver=solver))


def test_a_loss_that_needs_the_mean_at_z_is_refused() -> None:
    def config(**changes: object) -> TrainConfig:
        return dataclasses.replace(ICT, **changes)  # type: ignore[arg-type]

    assert config(loss=ICTLoss()) and config(**PROGRESSIVE)
    for changes in (
        PROGRESSIVE | dict(loss=EDM2Loss()),
        dict(loss=MeanFlowLoss(), preconditioning=FlowPreconditioning()),
        dict(dial=Dial(beta=(0.5,))),
    ):
        with pytest.raises(ConfigError, match="solver heun-4 has averages of means"):
            config(**changes)
    with pytest.raises(ConfigError, match="the noise ct"):
        config(loss=CTLoss())
    with pytest.raises(ConfigError, match="loss edm does not go with noise ict"):
        config(**PROGRESSIVE, recipe=TargetRecipe(noise=NOISE, solver="heun"))


def test_a_perfect_student_of_n_steps_walks_the_teacher_points() -> None:
    """For one Gaussian the student's target is linear in z, so n Euler steps of it end where the exact flow does."""
    sampler = make_sampler(SamplerConfig(sampler="euler", steps=4), consistency=False)
    assert isinstance(sampler, EulerSampler) and sampler.evaluations == 4
    levels, width = [*sampler.sigmas, 0.0], 0.3

    def student(z: torch.Tensor, sigma: torch.Tensor, label: torch.Tensor | None) -> torch.Tensor:
        later = levels[1 + min(range(4), key=lambda i: abs(levels[i] - float(sigma[0])))]
        reached = z * ((width**2 + later**2) / (width**2 + float(sigma[0]) ** 2)) ** 0.5
        ratio = later / float(sigma[0])
        return (reached - ratio * z) / (1 - ratio)

    drawn = sampler.sample(student, Noise(3, range(5), (1, 4, 4), "cpu"), None)
    z = 80 * Noise(3, range(5), (1, 4, 4), "cpu").draw()
    assert torch.allclose(drawn, z * width / (width**2 + 80**2) ** 0.5, atol=1e-4)
