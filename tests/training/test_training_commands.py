"""train, sample and evaluate as a user calls them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from postmean.cli.main import run as postmean
from postmean.contract.noise import ICTNoise
from postmean.contract.process import FlowMatchingProcess, VPProcess
from postmean.training.images import ImageFolder
from tests.support.exact_runs import make_run
from tests.support.stores import digits_store


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("commands")
    store = digits_store(path / "store", 60)
    make_run(path / "edm", store, 64, max_support=60)
    make_run(
        path / "ict", store, 64, max_support=60, solver="heun", noise=ICTNoise(batch_size=16, total_steps=4, s1=20)
    )
    return path


def train(folder: Path, preset: str, targets: str, out: str, *more: object) -> int:
    common = ["--targets", folder / targets, "--store", folder / "store", "--out", folder / out, "--device", "cpu"]
    small = ["--batch-size", 16, "--network.channels", 16]
    return postmean("train", [str(a) for a in [preset, *common, *small, *more]])


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    """A trained model."""
    assert train(folder, "edm-digits", "edm", "trained", "--steps", 1) == 0
    return folder / "trained"


def test_train_sample_and_go_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(folder, "edm-digits", "edm", "run", "--steps", 2, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["step"] == 2 and report["images"] == 32
    assert train(folder, "edm-digits", "edm", "run", "--steps", 2) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert train(folder, "edm-digits", "edm", "run", "--steps", 4) == 0
    assert "resumed from step 2" in capsys.readouterr().err
    arguments = [str(folder / "run"), "--out", str(folder / "out"), "--count", "5", "--steps", "3", "--json"]
    assert postmean("sample", arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["sampler"] == "heun" and report["count"] == 5 and report["labels"] is None
    assert len(ImageFolder(folder / "out")) == 5
    assert json.loads((folder / "out" / "samples.json").read_text()) == report


def test_consistency_models_are_sampled_by_their_own_sampler(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise = ["--noise.batch-size", 16, "--noise.total-steps", 4, "--noise.s1", 20]
    assert train(folder, "ict-digits", "ict", "run-ict", "--steps", 4, *noise) == 0
    capsys.readouterr()
    arguments = [str(folder / "run-ict"), "--out", str(folder / "out-ict"), "--count", "2", "--json"]
    assert postmean("sample", arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["sampler"], report["steps"], report["sigmas"]) == ("consistency", 1, [80.0])
    assert postmean("sample", [*arguments, "--sigmas", "80", "1.5"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["steps"], report["sigmas"]) == (2, [80.0, 1.5])
    assert postmean("sample", [*arguments, "--sampler", "heun"]) == 2
    assert "--sampler consistency" in capsys.readouterr().err


def test_a_mistake_is_one_line_with_the_remedy(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(folder, "edm-digits", "edm", "bad", "--steps", 2, "--noise.P-mean", 0.5) == 2
    error = capsys.readouterr().err.strip()
    assert "noise.P_mean is -1.2 in the targets, 0.5 in the trainer" in error and "\n" not in error
    assert train(folder, "ict-digits", "ict", "bad", "--steps", 2, "--noise.batch-size", 8) == 2
    assert "batch_size 16, noise.batch_size 8" in capsys.readouterr().err
    assert train(folder, "edm-digits", "edm", "bad", "--steps", 5) == 2
    assert "--tuples 80" in capsys.readouterr().err
    assert not (folder / "bad").exists()
    assert postmean("sample", [str(folder / "nothing"), "--out", str(folder / "o")]) == 2
    assert "postmean train" in capsys.readouterr().err


def test_vp_and_flow_targets_train_and_sample_in_canonical_coordinates(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from postmean.contract.image_store import ImageStore
    from postmean.contract.noise import LogitNormalTimeNoise, UniformTimeNoise

    store = ImageStore.open(folder / "store")
    for preset, process, noise in (
        ("vp-cifar10", VPProcess(), UniformTimeNoise()),
        ("flow-cifar10", FlowMatchingProcess(), LogitNormalTimeNoise()),
    ):
        make_run(folder / preset, store, 32, max_support=120, flips=True, process=process, noise=noise)
        network = ["--network.channel-mult", 1, 1, "--network.layers-per-block", 1, "--steps", 2]
        assert train(folder, preset, preset, f"run-{preset}", *network) == 0
        out = folder / f"out-{preset}"
        assert postmean("sample", [str(folder / f"run-{preset}"), "--out", str(out), "--count", "2"]) == 0
        assert np.isfinite(ImageFolder(out)[1]).all()
        card = json.loads(next((folder / f"run-{preset}").rglob("denoiser.json")).read_text())
        assert card["process"]["kind"] == process.kind


def test_evaluate_needs_one_source_of_images_and_usable_weights(
    folder: Path, trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store = ["--store", str(folder / "store"), "--device", "cpu"]
    assert postmean("evaluate", store) == 2
    assert "--checkpoint" in capsys.readouterr().err
    assert postmean("evaluate", [str(tmp_path), *store]) == 2
    assert "no PNG images" in capsys.readouterr().err
    postmean("sample", [str(trained), "--out", str(tmp_path / "s"), "--count", "2", "--steps", "2"])
    capsys.readouterr()
    weights = tmp_path / "weights.pth"
    for content in (b"", b"not weights"):
        weights.write_bytes(content)
        arguments = [str(tmp_path / "s"), *store, "--feature-extractor-weights", str(weights)]
        assert postmean("evaluate", arguments) == 2
        assert "--feature-extractor-weights" in capsys.readouterr().err
    torch.save({"conv.weight": torch.zeros(2)}, weights)
    assert postmean("evaluate", arguments) == 2
    assert "not the weights of torch-fidelity's Inception" in capsys.readouterr().err


def test_weights_that_cannot_be_downloaded_are_an_error_that_names_the_flag(
    folder: Path, trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import urllib.error

    def no_internet(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no internet")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_internet)
    arguments = ["--checkpoint", str(trained), "--store", str(folder / "store"), "--count", "2", "--steps", "1"]
    assert postmean("evaluate", [*arguments, "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert "no internet" in error and "--feature-extractor-weights FILE" in error
