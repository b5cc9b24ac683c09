"""An estimator and a loss from outside the package: generated with, verified, trained with."""

import os
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from postmean.estimators.traits import table, traits_of
from postmean.pipeline import (
    ConfigError,
    EstimatorSettings,
    FleetSettings,
    GenerateConfig,
    MismatchError,
    VerifyConfig,
    generate,
    verify,
    with_flags,
)
from postmean.training import PRESETS, Denoiser, HalfLifeEMA, Loss, TargetBatch, TrainRunConfig, load_denoiser, train
from tests.support.runs import files_of, indexed_store, make_by_hand

PACKAGE = '''
"""The exact mean by plain numpy."""

import numpy as np
from postmean.pipeline import Estimate, EstimatorTraits, to_unit

TRAITS = EstimatorTraits(name="plain", make="plain_estimator:make", estimates_exact_mean=True, promise="each")


class Plain:
    def __init__(self, population):
        self.population = population
        store = population.store
        self.x = to_unit(store.pixels(population.entry)).reshape(len(population), -1).astype(np.float64)

    def estimate(self, queries):
        z = queries.z.cpu().numpy().astype(np.float64)
        log_weight = -np.square(z[:, None] - self.x).sum(2) / (2 * queries.sigma[:, None] ** 2)
        weight = np.exp(log_weight - log_weight.max(1, keepdims=True))
        weight /= weight.sum(1, keepdims=True)
        mean = weight @ self.x
        support = [(np.flatnonzero(w > 1e-9), w[w > 1e-9] / w[w > 1e-9].sum()) for w in weight]
        return Estimate(
            mean=mean.astype(np.float32),
            support=[pair if len(pair[0]) <= 256 else None for pair in support],
            ess=np.maximum(1 / np.square(weight).sum(1), 1.0),
            top_weight=weight.max(1),
            variance=np.maximum((weight @ np.square(self.x) - np.square(mean)).mean(1), 0.0),
            tail_mass=np.zeros(len(z)),
            support_size=np.full(len(z), len(self.x)),
        )


def make(settings, population, max_support):
    return Plain(population)
'''


@dataclass(frozen=True, kw_only=True)
class AbsoluteLoss(Loss):
    """Mean absolute error to the posterior mean."""

    kind: ClassVar[str] = "absolute"
    scale: float = 1.0

    def __call__(self, model: torch.nn.Module, denoiser: Denoiser, batch: TargetBatch) -> torch.Tensor:
        difference = model(batch.z, batch.sigma, batch.label) - batch.mean
        return self.scale * difference.abs().flatten(1).sum(1)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path of this process and its children with the package in it, as pip would install it."""
    site = tmp_path / "site"
    about = site / "plain_estimator-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "plain_estimator.py").write_text(textwrap.dedent(PACKAGE))
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: plain-estimator\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[postmean.estimators]\nplain = plain_estimator:TRAITS\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))
    table.cache_clear()
    yield site
    table.cache_clear()
    sys.modules.pop("plain_estimator", None)


@pytest.fixture
def job(installed: Path, tmp_path: Path) -> GenerateConfig:
    """A run of 640 tuples with the estimator."""
    store = indexed_store(tmp_path / "store", 60)
    job = GenerateConfig(store=store.path, tuples=640, out=str(tmp_path / "run"), fleet=FleetSettings(actors=1))
    return with_flags(job, estimator=EstimatorSettings(name="plain"), records_per_shard=128, device="cpu")


@pytest.mark.slow
def test_real_actors_find_it_and_make_the_same_run(job: GenerateConfig, tmp_path: Path) -> None:
    """Slow: it starts Ray. What the estimator computes is checked by the next test, on a run made in this process."""
    make_by_hand(replace(job, out=str(tmp_path / "by hand")))
    assert generate(job).written > 1
    assert files_of(job.out) == files_of(tmp_path / "by hand")


def test_a_run_is_made_verified_and_trained_on(job: GenerateConfig, tmp_path: Path) -> None:
    assert make_by_hand(job).committed().sum() > 128
    report = verify(VerifyConfig(out=job.out, store=job.store))
    assert report.estimator == "plain" and report.problems == []
    assert max(row.worst for row in report.rows if row.kind == "records") < 1e-6

    small = replace(PRESETS["edm-digits"].network, channels=16)
    config = replace(PRESETS["edm-digits"], batch_size=32, steps=20, network=small, ema=HalfLifeEMA(half_life_kimg=0.1))
    out = tmp_path / "model"
    training = TrainRunConfig.of(config, targets=job.out, store=job.store, out=out, device="cpu")
    first = train(training, loss=AbsoluteLoss())
    assert first.step == 20 and first.loss is not None
    assert '"kind": "absolute"' in (out / "config.json").read_text()
    assert torch.isfinite(load_denoiser(out)(torch.zeros(1, 1, 8, 8), torch.ones(1))).all()
    with pytest.raises(MismatchError, match=r"loss\.scale is 1\.0 there, 2\.0 here"):  # another loss is another run
        train(training, loss=AbsoluteLoss(scale=2.0))


def test_an_unknown_estimator_is_refused_with_those_that_there_are(installed: Path) -> None:
    names = ", ".join(table())
    assert names.endswith("single-sample, plain")

    with pytest.raises(ConfigError, match=re.escape(f"estimator 'knn': expected one of {names}")):
        traits_of("knn")


def test_a_row_that_is_none_or_takes_a_name_is_refused(installed: Path) -> None:
    points = installed / "plain_estimator-1.0.dist-info" / "entry_points.txt"
    points.write_text("[postmean.estimators]\nplain = plain_estimator:Plain\n")
    with pytest.raises(ConfigError, match=r"entry point plain of .*: expected an EstimatorTraits"):
        table()


@pytest.mark.slow
def test_the_conformance_suite_picks_it_up_by_itself(installed: Path) -> None:
    """Slow: the suite imports torch anew."""
    suite = [sys.executable, "-m", "pytest", "tests/conformance/test_estimators.py", "-vv", "-p", "no:cacheprovider"]
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run([*suite, "-k", "plain"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-3000:]
    assert done.stdout.count("PASSED") >= 5
