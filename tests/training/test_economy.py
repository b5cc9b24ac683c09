"""Precision, memory format and gradient checkpointing: losses near those of fp32, and an exact resume."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from postmean.base.errors import ConfigError
from postmean.training.economy import checkpoint_blocks, tf32
from postmean.training.model.losses import SCMLoss
from postmean.training.model.networks import DDPMppNetwork, EDM2Network, UNet2DNetwork
from postmean.training.presets import PRESETS
from tests.support.exact_runs import make_run
from tests.support.small_training import BATCH, CONFIG, train
from tests.support.stores import digits_store


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("economy")
    make_run(path / "run", digits_store(path / "store", 40), 6 * BATCH, max_support=40)
    return path


def weights(folder: Path, name: str, *stops: int, **settings: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """Last loss and state of a training, which stops at these steps and is resumed."""
    loss = None
    for steps in stops:
        config = replace(CONFIG, steps=steps, log_every=2, **settings)
        loss = train(config, folder / "run", folder / "store", folder / name).loss
    assert loss is not None
    return loss, load_file(folder / name / "checkpoints" / f"{stops[-1]:08d}" / "state.safetensors")


@pytest.mark.parametrize(
    "settings, tolerance",
    [
        (dict(precision="fp16"), 1e-2),
        (dict(channels_last=True), 1e-4),
        (dict(gradient_checkpointing=True), 1e-4),
        (dict(tf32=True), 1e-4),
    ],
    ids=["fp16", "channels-last", "gradient-checkpointing", "tf32"],
)
def test_losses_are_near_those_of_fp32_and_a_resume_is_exact(
    folder: Path, tmp_path: Path, settings: dict[str, Any], tolerance: float
) -> None:
    plain, _ = weights(folder, str(tmp_path / "plain"), 4)
    loss, whole = weights(folder, str(tmp_path / "whole"), 4, **settings)
    assert loss == pytest.approx(plain, rel=tolerance)
    _, resumed = weights(folder, str(tmp_path / "resumed"), 2, 4, **settings)
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("kind", [DDPMppNetwork, EDM2Network, UNet2DNetwork])
def test_checkpointed_blocks_give_the_same_gradients(kind: Any) -> None:
    settings = kind(channels=32, channel_mult=(1, 2), layers_per_block=1, attention_resolutions=(8,), dropout=0.3)
    network = settings.build((1, 8, 8), 0).train()
    x, time = torch.randn(2, 1, 8, 8), torch.randn(2)
    for name, weight in network.named_parameters():
        if "gain" in name or not weight.any():
            torch.nn.init.normal_(weight)  # else the output is 0
    gradients = []
    for _ in range(2):
        network.zero_grad()
        torch.manual_seed(3)
        network(x, time, class_labels=None).square().sum().backward()
        gradients.append([weight.grad for weight in network.parameters() if weight.grad is not None])
        checkpoint_blocks(network)
    assert len(gradients[0]) == len(gradients[1])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_what_cannot_be_is_refused_and_tf32_ends_with_the_training() -> None:
    with pytest.raises(ConfigError, match="leave out --gradient-checkpointing"):
        replace(PRESETS["scm-digits"], gradient_checkpointing=True)
    assert SCMLoss.uses_jvp
    with pytest.raises(ConfigError, match="Linear has no blocks of ours"):
        checkpoint_blocks(torch.nn.Linear(1, 1))
    with pytest.raises(ConfigError, match="loss_scale"):
        replace(CONFIG, loss_scale=0.0)
    before = torch.backends.cuda.matmul.allow_tf32
    with tf32(True):
        assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32 == before
