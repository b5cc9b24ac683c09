"""`train --dry-run` says what a training takes, by the checks of a real start, and writes nothing."""

import json
from pathlib import Path

import pytest
import torch

from postmean.base.errors import ConfigError
from postmean.cli.main import run as postmean
from postmean.training.checkpoint import load_denoiser
from postmean.training.dry_run import dry_run
from postmean.training.loop import train
from postmean.training.run_config import TrainRunConfig
from tests.support.exact_runs import make_run
from tests.support.small_training import BATCH, CONFIG
from tests.support.stores import digits_store


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dry")
    make_run(path / "run", digits_store(path / "store", 40), 10 * BATCH, max_support=40)
    return path


def command(folder: Path, *more: object) -> int:
    where = ["--targets", folder / "run", "--store", folder / "store", "--out", folder / "out", "--device", "cpu"]
    small = ["--batch-size", BATCH, "--network.channels", 8]
    return postmean("train", [str(word) for word in ["edm-digits", *where, *small, *more]])


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_dry_run_says_what_the_real_run_then_has(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(folder)
    assert command(folder, "--steps", 10, "--dry-run", "--json") == 0
    assert files(folder) == before
    report = json.loads(capsys.readouterr().out)
    assert (report["steps"], report["images"], report["first_step"]) == (10, 10 * BATCH, 0)
    assert report["targets_suffice"] and report["seconds"] == pytest.approx(10 * report["seconds_per_step"])
    assert report["peak_memory_bytes"] > report["state_bytes"]
    assert command(folder, "--steps", 4, "--json") == 0
    capsys.readouterr()
    weights = list(load_denoiser(folder / "out").network.parameters())
    assert report["parameters"] == sum(weight.numel() for weight in weights)
    # weights, gradients, two moments and the average, and Adam's count of each tensor's steps
    assert report["state_bytes"] == 4 * 5 * report["parameters"] + 4 * len(weights)
    before = files(folder)
    assert command(folder, "--steps", 10, "--dry-run") == 0
    assert "80 images; 4 steps done" in capsys.readouterr().out and files(folder) == before
    assert command(folder, "--steps", 4, "--dry-run") == 0
    assert "all steps are done" in capsys.readouterr().out


def test_missing_targets_are_said_and_what_a_start_refuses_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = ("--out", folder / "new", "--dry-run")
    assert command(folder, *new, "--steps", 12) == 0
    said = capsys.readouterr().out
    assert "--tuples 96" in said and "s a step" in said
    assert command(folder, *new, "--targets", folder / "nowhere", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert not report["targets_suffice"] and "postmean generate" in report["targets"]
    assert report["seconds"] is None and report["peak_memory_bytes"] is None
    assert command(folder, *new, "--noise.P-mean", 0.5) == 2
    assert "noise.P_mean is -1.2 in the targets" in capsys.readouterr().err
    assert not (folder / "new").exists() and not (folder / "nowhere").exists()


def test_from_python_own_networks_are_counted_and_train_refuses_a_dry_run(folder: Path) -> None:
    paths = dict(targets=str(folder / "run"), store=folder / "store", out=folder / "own", device="cpu")

    class Own(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones([]))

        def forward(self, x: torch.Tensor, time: torch.Tensor, class_labels: torch.Tensor | None) -> torch.Tensor:
            return self.scale * x

    config = TrainRunConfig.of(CONFIG, **paths)
    assert dry_run(config, network=lambda shape, classes: Own()).parameters == 1
    own = Own()
    assert dry_run(config, network=own).parameters == 1
    assert own.scale.device.type == "cpu" and own.scale.item() == 1.0
    with pytest.raises(ConfigError, match="dry_run"):
        train(TrainRunConfig.of(CONFIG, dry_run=True, **paths))
