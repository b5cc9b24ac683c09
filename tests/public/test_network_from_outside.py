"""A network from outside the package, as a module, a function or settings: trained, saved and loaded."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from postmean.cli.main import run as postmean
from postmean.pipeline import ConfigError, MismatchError
from postmean.training import SampleConfig, TrainRunConfig, load_denoiser, sample, train
from tests.support.exact_runs import make_run
from tests.support.runs import assert_one_line
from tests.support.small_training import CONFIG
from tests.support.stores import digits_store


class Pixelwise(nn.Module):
    """A perceptron over whole images, with two names for one weight."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Linear(64 + 1, width)
        self.last = nn.Linear(width, 64)
        self.alias = self.last

    def forward(self, x, time, class_labels=None, second_time=None):
        hidden = torch.relu(self.first(torch.cat([x.flatten(1), time[:, None]], 1)))
        return self.last(hidden).reshape(x.shape)


def pixelwise(image_shape: tuple[int, int, int], classes: int) -> Pixelwise:
    assert image_shape == (1, 8, 8) and classes == 0
    return Pixelwise()


@dataclass(frozen=True, kw_only=True)
class PixelwiseNetwork:
    kind: ClassVar[str] = "pixelwise"
    width: int = 8

    def build(self, image_shape: tuple[int, int, int], classes: int) -> Pixelwise:
        return Pixelwise(self.width)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own")
    make_run(path / "targets", digits_store(path / "store", 50), 64, max_support=50)
    return path


def settings(folder: Path, out: str, steps: int = 4, init: str = "") -> TrainRunConfig:
    recipe = replace(CONFIG, steps=steps)
    paths = dict(targets=str(folder / "targets"), store=folder / "store", out=folder / out, device="cpu")
    return TrainRunConfig.of(recipe, **paths, init=init)


def test_a_module_is_trained_itself_and_its_checkpoint_loads_with_it_alone(folder: Path, capsys) -> None:
    module = Pixelwise()
    first = train(settings(folder, "module", steps=2), network=module, progress=False)
    torch.manual_seed(1)
    resumed = Pixelwise()
    report = train(settings(folder, "module"), network=resumed, progress=False)
    assert (report.resumed_from, report.step) == (2, 4)
    state = load_file(f"{report.checkpoint}/state.safetensors")
    torch.testing.assert_close(state["model.first.weight"], resumed.first.weight.detach())

    z, sigma = torch.randn(3, 1, 8, 8), torch.ones(3)
    loaded = load_denoiser(report.checkpoint, network=Pixelwise())
    averages = load_file(f"{report.checkpoint}/network/weights.safetensors")
    torch.testing.assert_close(loaded.network.last.bias, averages["last.bias"])
    before = load_denoiser(first.checkpoint, network=pixelwise)
    assert not torch.equal(loaded(z, sigma), before(z, sigma))

    with pytest.raises(ConfigError, match=r"its network is \S*Pixelwise, .*load_denoiser\(checkpoint, network="):
        load_denoiser(report.checkpoint)
    with pytest.raises(MismatchError, match="another network"):
        load_denoiser(report.checkpoint, network=Pixelwise(4))
    capsys.readouterr()
    assert postmean("sample", [report.checkpoint, "--out", str(folder / "images")]) == 2
    assert_one_line(capsys.readouterr().err, "which postmean cannot build")


def test_settings_from_outside_are_written_to_the_config_and_compared(folder: Path) -> None:
    report = train(settings(folder, "settings"), network=PixelwiseNetwork(width=4), progress=False)
    assert '"kind": "pixelwise"' in (folder / "settings/config.json").read_text()
    assert load_denoiser(report.checkpoint, network=PixelwiseNetwork(width=4)).network.first.out_features == 4
    with pytest.raises(MismatchError, match=r"network\.width is 4 there, 8 here"):
        train(settings(folder, "settings"), network=PixelwiseNetwork(), progress=False)
    again = settings(folder, "again", steps=1, init=report.checkpoint)
    assert train(again, network=PixelwiseNetwork(width=4), progress=False).step == 1


def test_what_is_no_network_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"builtins\.str is neither"):
        train(settings(folder, "text"), network="unet", progress=False)
    with pytest.raises(ConfigError, match="gave str, expected a torch"):
        train(settings(folder, "text"), network=lambda image_shape, classes: "unet", progress=False)


def test_a_network_of_postmean_is_not_passed_again(folder: Path) -> None:
    report = train(settings(folder, "unet"), progress=False)
    with pytest.raises(ConfigError, match="leave network= out"):
        load_denoiser(report.checkpoint, network=pixelwise)
    out = sample(
        SampleConfig(checkpoint=Path(report.checkpoint), out=folder / "drawn", count=1, steps=2), progress=False
    )
    assert out.count == 1
