"""torch.compile changes losses by roundings alone, and resumes exactly: with dropout, teachers, forward derivatives."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from postmean.base.errors import ConfigError
from postmean.contract.noise import ICTNoise
from postmean.training import economy
from postmean.training.loop import train
from postmean.training.presets import PRESETS
from postmean.training.run_config import TrainRunConfig
from tests.support.exact_runs import make_run
from tests.support.small_training import BATCH, CONFIG
from tests.support.stores import digits_store

RECIPES = {name: PRESETS[f"{name}-digits"].recipe for name in ("edm", "ict", "scm")}
RECIPES["ict"] = replace(RECIPES["ict"], noise=ICTNoise(batch_size=BATCH, total_steps=6, s0=4, s1=16))


class Small(nn.Module):
    """A perceptron over whole images, with dropout: a second to compile."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64 + 1, 32), nn.Linear(32, 64)

    def forward(self, x, time, class_labels=None, second_time=None):
        hidden = torch.tanh(self.first(torch.cat([x.flatten(1), time[:, None]], 1)))
        return self.last(nn.functional.dropout(hidden, 0.3, self.training)).reshape(x.shape)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compile")
    store = digits_store(path / "store", 40)
    for name, recipe in RECIPES.items():
        make_run(path / name, store, 6 * BATCH, max_support=40, noise=recipe.noise, solver=recipe.solver)
    return path


def state(folder: Path, name: str, out: Path, *stops: int, **settings: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """Last loss and state of a training, which stops at these steps and is resumed."""
    small = dict(recipe=RECIPES[name], batch_size=BATCH, log_every=2, micro_batch=4)
    loss = None
    for steps in stops:
        config = replace(PRESETS[f"{name}-digits"], steps=steps, **small, **settings)
        run = TrainRunConfig.of(config, targets=str(folder / name), store=folder / "store", out=out, device="cpu")
        torch.manual_seed(2)
        loss = train(run, network=lambda shape, classes: Small(), progress=False).loss
    assert loss is not None
    return loss, load_file(out / "checkpoints" / f"{stops[-1]:08d}" / "state.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_losses_are_those_of_eager_and_a_resume_is_exact(name: str, folder: Path, tmp_path: Path) -> None:
    """Slow: a C++ compiler runs."""
    eager, plain = state(folder, name, tmp_path / "eager", 4)
    loss, whole = state(folder, name, tmp_path / "whole", 4, compile=True)
    assert loss == pytest.approx(eager, rel=1e-4)
    for key, value in plain.items():
        torch.testing.assert_close(whole[key], value, rtol=1e-3, atol=1e-5, msg=key)
    _, resumed = state(folder, name, tmp_path / "resumed", 2, 4, compile=True)
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_what_cannot_be_compiled_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no working C++ compiler\nand more")

    monkeypatch.setattr(economy.torch, "compile", lambda *_, **__: fails)
    with pytest.raises(ConfigError) as raised:
        economy.check_compiler(torch.device("cpu"))
    assert str(raised.value).count("\n") == 0 and "no working C++ compiler): install" in str(raised.value)
    with pytest.raises(ConfigError, match="leave one of them out"):
        replace(CONFIG, compile=True, gradient_checkpointing=True)
