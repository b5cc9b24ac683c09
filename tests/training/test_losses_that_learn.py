"""A loss with weights of its own, or with an average as teacher, resumes exactly; both are trained."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from postmean.contract.noise import CTNoise, LogNormalNoise
from postmean.training.config import TrainConfig
from postmean.training.model.losses import CTLoss, EDM2Loss
from postmean.training.model.preconditionings import CMPreconditioning
from tests.support.exact_runs import make_run
from tests.support.small_training import BATCH, CONFIG, train
from tests.support.stores import digits_store

CT_NOISE = CTNoise(total_steps=6, batch_size=BATCH, s1=8)
EDM2 = dataclasses.replace(CONFIG, loss=EDM2Loss(channels=4), checkpoint_every=3)
CT = dataclasses.replace(
    CONFIG,
    recipe=dataclasses.replace(CONFIG.recipe, noise=CT_NOISE),
    preconditioning=CMPreconditioning(),
    loss=CTLoss(),
    checkpoint_every=3,
)


@pytest.mark.parametrize("config, noise, part", [(EDM2, LogNormalNoise(), "learned."), (CT, CT_NOISE, "ema.1.")])
def test_what_a_loss_learns_and_its_teacher_resume_exactly(
    tmp_path: Path, config: TrainConfig, noise: LogNormalNoise | CTNoise, part: str
) -> None:
    store = digits_store(tmp_path / "store", 40)
    make_run(tmp_path / "run", store, 6 * BATCH, max_support=40, noise=noise)
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    train(config, tmp_path / "run", store.path, whole)
    train(dataclasses.replace(config, steps=3), tmp_path / "run", store.path, halved)
    early = load_file(halved / "checkpoints" / "00000003" / "state.safetensors")
    train(config, tmp_path / "run", store.path, halved)
    a, b = (load_file(out / "checkpoints" / "00000006" / "state.safetensors") for out in (whole, halved))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    kept = [name for name in a if name.startswith(part)]
    assert kept and any(not torch.equal(a[name], early[name]) for name in kept)
