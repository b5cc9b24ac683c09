"""Networks of diffusers have the sizes of the papers, start at zero, and refuse images that they cannot take."""

import dataclasses

import pytest
import torch

from postmean.base.errors import ConfigError
from postmean.training.model.networks import UNet2DNetwork
from postmean.training.model.networks.unet2d import Architecture
from postmean.training.model.preconditioning import Denoiser
from postmean.training.model.preconditionings import EDMPreconditioning
from postmean.training.presets import DIGITS, PRESETS

DDPMPP = UNet2DNetwork()
NCSNPP = UNet2DNetwork(architecture="ncsn++")
ADM = UNet2DNetwork(
    architecture="adm", channels=192, channel_mult=(1, 2, 3, 4), layers_per_block=3, attention_resolutions=(32, 16, 8)
)


@pytest.mark.parametrize(
    "network, image_shape, classes, millions",
    [(DDPMPP, (3, 32, 32), 0, 55.74), (NCSNPP, (3, 32, 32), 0, 56.41), (ADM, (3, 64, 64), 1000, 295.90)],
    ids=["ddpm++", "ncsn++", "adm"],
)
def test_parameter_counts(
    network: UNet2DNetwork, image_shape: tuple[int, int, int], classes: int, millions: float
) -> None:
    with torch.device("meta"):
        built = network.build(image_shape, classes)
    assert sum(p.numel() for p in built.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize("architecture, channels", [("ddpm++", 1), ("ncsn++", 3), ("adm", 1)])
def test_networks_start_at_zero_and_every_weight_can_learn(architecture: Architecture, channels: int) -> None:
    config = dataclasses.replace(DIGITS, architecture=architecture, channels=32, channel_mult=(1, 1))
    network = config.build((channels, 8, 8), 10)
    denoiser = Denoiser(network, EDMPreconditioning())
    z, sigma, label = torch.randn(2, channels, 8, 8), torch.tensor([0.5, 2.0]), torch.tensor([0, 9])
    c_skip = EDMPreconditioning().scalings(sigma)[0][:, None, None, None]
    torch.testing.assert_close(denoiser(z, sigma, label), c_skip * z)
    optimiser = torch.optim.Adam(denoiser.parameters(), lr=1e-2)
    for _ in range(4):  # each step makes one more layer nonzero
        optimiser.zero_grad()
        (denoiser(z, sigma, label) - 1).square().sum().backward()
        optimiser.step()
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # a bias or key bias before a normalisation or softmax has no effect by construction
    assert not [name for name in still if "norm" not in name and not name.endswith("bias")], still


def test_images_that_a_network_cannot_take_are_refused() -> None:
    with pytest.raises(ConfigError, match="architecture"):
        NCSNPP.build((1, 32, 32), 0)
    with pytest.raises(ConfigError, match="halve"):
        DDPMPP.build((3, 30, 30), 0)
    with pytest.raises(ConfigError, match="channels"):
        dataclasses.replace(DIGITS, channels=33).build((1, 8, 8), 0)


def test_every_preset_builds_and_agrees_with_its_targets() -> None:
    from postmean.contract.presets import PRESETS as TARGETS

    for name, config in PRESETS.items():
        side = 8 if "digits" in name else 64 if "64" in name else 32
        shape = (1, 8, 8) if side == 8 else (3, side, side)
        with torch.device("meta"):
            config.network.build(shape, 1000 if config.recipe.conditional else 0)
        assert config.steps * config.batch_size <= TARGETS[name].tuples
        assert config.recipe == TARGETS[name].recipe


def test_dropout_is_switched_off_above_its_largest_image_side() -> None:
    config = dataclasses.replace(ADM, dropout=0.4, dropout_side=16)
    with torch.device("meta"):
        network, everywhere = (
            c.build((3, 64, 64), 0).unet for c in (config, dataclasses.replace(config, dropout_side=None))
        )

    def rates(block: torch.nn.Module) -> set[float]:
        return {m.p for name, m in block.named_modules() if name.endswith("dropout")}

    assert [rates(block) for block in network.down_blocks] == [{0.0}, {0.0}, {0.4}, {0.4}]  # 64, 32, 16, 8
    assert [rates(block) for block in network.up_blocks] == [{0.4}, {0.4}, {0.0}, {0.0}]
    assert rates(network.mid_block) == {0.4}
    assert rates(everywhere) == {0.4}
