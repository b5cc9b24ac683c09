"""A metric from outside the package: measured at its steps of the averaged model, and shown wherever lines are."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from postmean.base.json_files import parse_json
from postmean.pages.training_page import training_page
from postmean.pipeline import ConfigError, ImageStore
from postmean.training import Denoiser, Metric, SampleConfig, TrainRunConfig, load_denoiser, sample, train
from postmean.training.images import ImageFolder
from postmean.training.watching.metrics.metric import LINE
from tests.support.exact_runs import make_run
from tests.support.small_training import BATCH, CONFIG
from tests.support.stores import digits_store


@dataclass(frozen=True, kw_only=True)
class Brightness:
    """Mean pixel of the samples, and how far it is from that of the store."""

    name: str = "brightness"
    every_kimg: float = 2 * BATCH / 1000
    images: int = 6

    def measure(self, model: Denoiser, images: np.ndarray, store: ImageStore) -> dict[str, Any]:
        mean = float(images.mean())
        return {"mean": mean, "off": mean - float(store.images[:].mean())}


@dataclass(frozen=True, kw_only=True)
class AtZero:
    """The denoised black image: a number, without samples."""

    name: str = "at_zero"
    every_kimg: float = 3 * BATCH / 1000
    images: int = 0

    def measure(self, model: Denoiser, images: np.ndarray, store: ImageStore) -> float:
        assert images.shape == (0, *store.image_shape) and not model.training
        with torch.no_grad():
            return float(model(torch.zeros(1, *store.image_shape), torch.ones(1)).mean())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("metric")
    make_run(path / "targets", digits_store(path / "store", 50), 6 * BATCH, max_support=50)
    return path


def settings(folder: Path, out: str, **more: Any) -> TrainRunConfig:
    recipe = replace(CONFIG, steps=4, log_every=4, checkpoint_every=2)
    paths = dict(targets=str(folder / "targets"), store=folder / "store", out=folder / out, device="cpu")
    return TrainRunConfig.of(recipe, **paths, **more)


def test_it_is_measured_of_the_averaged_model_and_changes_nothing(folder: Path) -> None:
    metrics: list[Metric] = [Brightness(), AtZero()]
    report = train(settings(folder, "with"), metrics=metrics, progress=False)
    lines = [parse_json(line) for line in (folder / "with/metrics.jsonl").read_bytes().splitlines()]
    assert [(line["step"], *(name for name in ("brightness", "at_zero") if name in line)) for line in lines] == [
        (2, "brightness"),
        (3, "at_zero"),
        (4, "brightness"),
    ]
    assert {name for line in lines for name in line} <= LINE | {"brightness", "at_zero"}

    config = SampleConfig(checkpoint=Path(report.checkpoint), out=folder / "drawn", count=6, device="cpu")
    sample(config, progress=False)
    drawn = ImageFolder(folder / "drawn")
    assert lines[2]["brightness"]["mean"] == pytest.approx(np.mean([drawn[n] for n in range(6)]))
    assert isinstance(lines[1]["at_zero"], float)

    without = train(settings(folder, "without"), progress=False)
    z, sigma = torch.randn(2, 1, 8, 8), torch.ones(2)
    assert torch.equal(load_denoiser(report.checkpoint)(z, sigma), load_denoiser(without.checkpoint)(z, sigma))
    charts = [chart.title for section in training_page(folder / "with").sections for chart in section.charts]
    assert "brightness" in charts and "at_zero" in charts


@pytest.mark.parametrize(
    "metric, message",
    [
        (Brightness(name="loss"), "loss is in the lines of metrics.jsonl already"),
        (Brightness(every_kimg=0.0), "brightness: expected finite every_kimg > 0"),
        (json.dumps, "function has no name, every_kimg, images, measure"),
    ],
)
def test_what_is_no_metric_is_refused(folder: Path, metric: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(settings(folder, "refused"), metrics=[metric], progress=False)
    with pytest.raises(ConfigError, match="brightness is in the lines"):
        train(settings(folder, "refused"), metrics=[Brightness(), Brightness()], progress=False)
    assert not (folder / "refused").exists()
