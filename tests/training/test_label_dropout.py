"""Label dropout: which labels, which targets, and a model that guides itself."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from postmean.cli.main import run as postmean
from postmean.training.label_dropout import drop_labels
from postmean.training.stream.batch import TargetBatch
from tests.support.exact_runs import make_run
from tests.support.stores import digits_store

SIGMA = 0.8


def tuples(count: int) -> TargetBatch:
    """Images -1 (class 0) and 1 (class 1) with equal odds; each class is one image, so its own mean."""
    label = torch.from_numpy(np.random.default_rng(0).integers(0, 2, count))
    x = (2.0 * label - 1).float()[:, None, None, None]
    eps = torch.randn(count, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    one, none = torch.ones(count), torch.zeros(count, dtype=torch.bool)
    sigma = torch.full((count,), SIGMA)
    return TargetBatch(
        torch.arange(count), x + SIGMA * eps, sigma, None, x, eps, 0.5 * x, None, label, none, 2 * one, one, one / 2
    )


def test_targets_without_a_label_average_to_the_unconditional_mean() -> None:
    """E[x | z] = tanh(z / sigma^2): the residual is uncorrelated with functions of z, and z alone."""
    batch = drop_labels(tuples(60_000), 0.5, 2, 60_000, seed=3, step=0)
    assert batch.label is not None
    rows = batch.label == 2
    z, target = batch.z[rows].flatten().double(), batch.mean[rows].flatten().double()
    residual = target - torch.tanh(z / SIGMA**2)
    for moment in (torch.ones_like(z), z, z**3, torch.tanh(z)):
        product = residual * moment
        assert abs(float(product.mean())) < 4 * float(product.std()) / len(z) ** 0.5
    assert torch.equal(batch.mean[~rows], 0.5 * batch.x[~rows])  # the others keep their targets
    assert float(batch.variance[rows].max()) == 0 and float(batch.variance[~rows].min()) == 1
    assert float(rows.double().mean()) == pytest.approx(0.5, abs=0.01)


def test_ranks_drop_the_labels_of_one_process_and_steps_differ() -> None:
    batch = tuples(64)
    whole = drop_labels(batch, 0.4, 2, 64, seed=3, step=5).label
    parts = [drop_labels(batch.rows(a, a + 32), 0.4, 2, 64, seed=3, step=5).label for a in (0, 32)]
    assert whole is not None and torch.equal(whole, torch.cat(parts))
    later = drop_labels(batch, 0.4, 2, 64, seed=3, step=6).label
    assert later is not None and not torch.equal(whole, later)


def test_a_model_trained_with_it_guides_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = digits_store(tmp_path / "store", 60)
    make_run(tmp_path / "targets", store, 32, max_support=60, conditional=True)
    common = ["--targets", "targets", "--store", "store", "--out", "run"]
    common = [word if word.startswith("--") else str(tmp_path / word) for word in common]
    train = ["edm-digits", *common, "--device", "cpu", "--batch-size", "16", "--network.channels", "16", "--steps", "2"]
    assert postmean("train", [*train, "--conditional", "--label-dropout", "0.25"]) == 0
    card = json.loads(next((tmp_path / "run").rglob("denoiser.json")).read_text())
    assert card["has_null_class"] and card["classes"] == 10
    draw = [str(tmp_path / "run"), "--count", "2", "--steps", "2", "--guidance", "2", "--out", str(tmp_path / "out")]
    assert postmean("sample", draw) == 0
    capsys.readouterr()
    assert postmean("train", [*train, "--label-dropout", "0.25"]) == 2
    assert "unconditional" in capsys.readouterr().err
