"""Averages of the weights: their profiles, any width made of two afterwards, several at once, exactly resumed."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from postmean.base.errors import ConfigError, DataError
from postmean.training.checkpoint import load_denoiser
from postmean.training.model.ema import ConstantEMA, PowerEMA
from postmean.training.model.ema.averaged_network import AveragedNetwork
from postmean.training.snapshots import reconstruct, save_snapshot
from tests.support.exact_runs import make_run
from tests.support.small_training import BATCH, CONFIG, train
from tests.support.stores import digits_store

PROFILES = (PowerEMA(sigma_rel=0.05), PowerEMA(sigma_rel=0.10))


def test_the_exponent_of_a_width_is_that_of_the_paper() -> None:
    gamma = np.array([PowerEMA(sigma_rel=width).gamma for width in (0.05, 0.10, 0.25)])
    assert gamma[:2] == pytest.approx([16.97, 6.94], abs=0.01)  # Karras et al. 2024, Sec. 3.1
    # the standard deviation of the density (gamma + 1) t^gamma on [0, 1]
    widths = np.sqrt((gamma + 1) / (gamma + 3) - ((gamma + 1) / (gamma + 2)) ** 2)
    assert widths == pytest.approx([0.05, 0.10, 0.25])


def test_a_power_average_weighs_step_t_by_t_to_the_gamma() -> None:
    weights = np.random.default_rng(0).normal(size=400)
    ema, average = PowerEMA(sigma_rel=0.1), 0.0
    for step, weight in enumerate(weights, 1):
        decay = ema.decay_at(8 * step, 8)
        average = decay * average + (1 - decay) * weight
    density = (np.arange(400) + 0.5) ** ema.gamma
    assert average == pytest.approx(density @ weights / density.sum(), abs=2e-3)


class Walk(nn.Module):
    """Weights that move at random, and towards a goal, as those of a training."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(50))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))


@pytest.mark.parametrize("sigma_rel", [0.05, 0.06, 0.08, 0.15])
def test_an_average_made_afterwards_is_the_one_computed_directly(tmp_path: Path, sigma_rel: float) -> None:
    generator = torch.Generator().manual_seed(0)
    network, direct = Walk().requires_grad_(False), PowerEMA(sigma_rel=sigma_rel)
    averages = {ema: AveragedNetwork(network) for ema in {*PROFILES, direct}}
    for step in range(1, 1601):
        pull = (1 - network.weight) / 200
        network.weight += pull + 0.02 * torch.randn(50, generator=generator)
        network.steps += 1
        for ema, averaged in averages.items():
            averaged.update(network, ema.decay_at(4 * step, 4))
        if step % 100 == 0:
            save_snapshot(tmp_path, step, 4 * step, {ema: averages[ema].network for ema in PROFILES})
    made, truth = reconstruct(tmp_path, sigma_rel, 6400), averages[direct].network.weight
    error = float((made["weight"] - truth).norm())
    between = float((averages[PROFILES[0]].network.weight - averages[PROFILES[1]].network.weight).norm())
    assert error < (1e-4 if sigma_rel == 0.05 else 0.03) * between
    assert made["steps"] == 1600
    early = reconstruct(tmp_path, 0.10, 4 * 850)  # as of step 800
    assert torch.equal(early["weight"].isfinite(), torch.ones(50, dtype=torch.bool)) and early["steps"] == 800


SEVERAL = dataclasses.replace(
    CONFIG, ema=PROFILES[0], more_emas=(PROFILES[1], ConstantEMA(decay=0.5)), snapshot_every=2, checkpoint_every=3
)


def test_several_averages_resume_exactly_and_any_width_is_loaded(tmp_path: Path) -> None:
    store = digits_store(tmp_path / "store", 60)
    make_run(tmp_path / "run", store, 6 * BATCH, max_support=60)
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    train(SEVERAL, tmp_path / "run", store.path, whole)
    train(dataclasses.replace(SEVERAL, steps=3), tmp_path / "run", store.path, halved)
    train(SEVERAL, tmp_path / "run", store.path, halved)
    for folder, name in (("checkpoints", "state"), ("snapshots", "0.05"), ("snapshots", "0.1")):
        a, b = (load_file(out / folder / "00000006" / f"{name}.safetensors") for out in (whole, halved))
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a), name
    state = load_file(whole / "checkpoints" / "00000006" / "state.safetensors")
    own, power, constant = (
        {name.removeprefix(start): t for name, t in state.items() if name.startswith(start)}
        for start in ("model.", "ema.1.", "ema.2.")
    )
    assert own.keys() == power.keys() == constant.keys()
    distance = {
        ema: sum(float((part[n] - own[n]).norm()) for n in own) for ema, part in (("p", power), ("c", constant))
    }
    assert distance["c"] > 0 and 0 < distance["p"] != distance["c"]
    wide = load_denoiser(whole, ema=0.10).network.state_dict()
    for name, value in power.items():
        torch.testing.assert_close(wide[name.replace("network.", "", 1)], value, rtol=0, atol=1e-5)
    with pytest.raises(ConfigError, match="sigma_rel"):
        load_denoiser(whole, ema=0.5)
    train(CONFIG, tmp_path / "run", store.path, tmp_path / "none")
    with pytest.raises(DataError, match="no snapshots"):
        load_denoiser(tmp_path / "none", ema=0.08)


def test_snapshots_without_a_power_average_are_refused() -> None:
    with pytest.raises(ConfigError, match="nothing to keep"):
        dataclasses.replace(CONFIG, snapshot_every=5)
    with pytest.raises(ConfigError, match="two are the same"):
        dataclasses.replace(CONFIG, more_emas=(CONFIG.ema,))
