"""The dial between the usual target and the posterior mean, and the floor that the log subtracts."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from postmean.base.errors import ConfigError, MismatchError
from postmean.contract.image_store import ImageStore
from postmean.training.dial import Dial
from postmean.training.model.losses import EDMLoss, ICTLoss
from postmean.training.model.preconditioning import Denoiser
from postmean.training.presets import PRESETS
from postmean.training.stream.batch import TargetBatch
from postmean.training.stream.stream import TargetStream
from tests.support.exact_runs import entries_of, make_run
from tests.support.small_training import BATCH, CONFIG, train
from tests.support.stores import digits_store

TUPLES = 6 * BATCH


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    return digits_store(tmp_path_factory.mktemp("dial") / "store", 60)


@pytest.fixture(scope="module")
def targets(store: ImageStore) -> Path:
    path = store.path.parent / "targets"
    make_run(path, store, TUPLES, max_support=60)
    return path


@pytest.fixture(scope="module")
def batch(store: ImageStore, targets: Path) -> TargetBatch:
    with TargetStream.open(targets, store, TUPLES) as stream:
        return next(iter(stream))


def test_beta_0_is_the_image_and_1_the_mean(batch: TargetBatch) -> None:
    assert torch.equal(Dial().target(batch), batch.mean)
    assert torch.equal(Dial(beta=(0.0,)).target(batch), batch.x)
    half = Dial(beta=(0.5,)).target(batch)
    torch.testing.assert_close(half, (batch.x + batch.mean) / 2)


def test_a_table_is_linear_in_ln_sigma_and_constant_outside() -> None:
    dial = Dial(beta=(0.0, 1.0, 0.5), sigma=(0.1, 1.0, 10.0))
    sigma = torch.tensor([0.01, 0.1, 0.1 * 10**0.25, 1.0, 10**0.5, 10.0, 80.0])
    torch.testing.assert_close(dial.at(sigma), torch.tensor([0, 0, 0.25, 1, 0.75, 0.5, 0.5]))


def test_the_floor_is_what_targets_drawn_from_the_posterior_add_to_the_loss(
    store: ImageStore, batch: TargetBatch
) -> None:
    """E over x of the loss with target x + beta (mean - x), by the full sum over x in float64."""
    denoiser = Denoiser(CONFIG.network.build(store.image_shape, 0), CONFIG.preconditioning).double()
    x = entries_of(store, False)
    z, sigma = (column.double().numpy() for column in (batch.z.flatten(1), batch.sigma))
    log_weight = -np.square(z[:, None] - x).sum(2) / (2 * sigma[:, None] ** 2)
    weight = np.exp(log_weight - log_weight.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    mean = weight @ x
    prediction = 0.1 * z  # stands for any network
    factor = (sigma**2 + 0.25) / (0.5 * sigma) ** 2
    floor = EDMLoss().floor(denoiser, batch).double().numpy()
    for beta in (0.0, 0.3, 1.0):
        target = x + beta * (mean[:, None] - x)
        squared = np.square(prediction[:, None] - target).sum(2)
        expected = factor * (weight * squared).sum(1)
        excess = factor * np.square(prediction - mean).sum(1)
        np.testing.assert_allclose(excess + (1 - beta) ** 2 * floor, expected, rtol=1e-4, atol=1e-4)
    assert floor.max() > 1


def test_the_log_shows_floor_and_excess_by_sigma(store: ImageStore, targets: Path, tmp_path: Path) -> None:
    lines = {}
    for beta in (1.0, 0.0):
        config = replace(CONFIG, dial=Dial(beta=(beta,)), log_every=6)
        train(config, targets, store.path, tmp_path / str(beta))
        (line,) = map(json.loads, (tmp_path / str(beta) / "metrics.jsonl").read_text().splitlines())
        lines[beta] = line
        share = (1 - beta) ** 2
        for name, loss in line["loss_by_sigma"].items():
            assert line["excess_by_sigma"][name] == pytest.approx(loss - share * line["floor_by_sigma"][name], abs=1e-6)
    assert lines[0.0]["floor_by_sigma"] == lines[1.0]["floor_by_sigma"]
    assert lines[1.0]["excess_by_sigma"] == lines[1.0]["loss_by_sigma"] != lines[0.0]["loss_by_sigma"]
    assert EDMLoss().has_floor and not ICTLoss().has_floor


def test_a_run_keeps_its_dial(store: ImageStore, targets: Path, tmp_path: Path) -> None:
    train(replace(CONFIG, steps=2, dial=Dial(beta=(0.5,))), targets, store.path, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["dial"]["beta"] == [0.5]
    with pytest.raises(MismatchError, match=r"dial.beta is \[0.5\] there, \[1.0\] here"):
        train(CONFIG, targets, store.path, tmp_path / "run")


def test_a_dial_that_means_nothing_is_refused() -> None:
    for wrong in (
        dict(beta=(1.5,)),
        dict(beta=(0.5, 1.0)),
        dict(beta=(0, 1), sigma=(2, 1)),
        dict(beta=(1,), sigma=(0,)),
    ):
        with pytest.raises(ConfigError, match="dial"):
            Dial(**wrong)
    with pytest.raises(ConfigError, match="--solver euler"):
        replace(PRESETS["ict-cifar10"], dial=Dial(beta=(0.0,)))
