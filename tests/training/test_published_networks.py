"""DDPM++, NCSN++, ADM and EDM2 compute what the papers say, have their sizes, and can be differentiated forwards."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from postmean.base.errors import ConfigError
from postmean.training.model.networks import ADMNetwork, DDPMppNetwork, EDM2Network, NCSNppNetwork
from tests.support.paper_networks import adm_unet, edm2_unet, song_unet

SHAPE, CLASSES = (2, 8, 8), 5
SMALL = dict(channels=32, channel_mult=(1, 2), layers_per_block=1, attention_resolutions=(4,))
ORACLES = {
    "ddpm++": (DDPMppNetwork(**SMALL), partial(song_unet, taps=[1, 1])),
    "ncsn++": (NCSNppNetwork(**SMALL), partial(song_unet, taps=[1, 3, 3, 1])),
    "adm": (ADMNetwork(**SMALL), adm_unet),
    "edm2": (EDM2Network(**SMALL), edm2_unet),
    "adm of two heads": (ADMNetwork(**SMALL | dict(channels=64)), adm_unet),
    "edm2 of two heads": (EDM2Network(**SMALL | dict(channels=64)), edm2_unet),
}
each = pytest.mark.parametrize("name", ORACLES)
each_kind = pytest.mark.parametrize("kind", [DDPMppNetwork, NCSNppNetwork, ADMNetwork, EDM2Network])


def trained(network: nn.Module) -> nn.Module:
    """The network with random weights, none of them the zeros with which it starts."""
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network.eval()


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(2, *SHAPE), torch.tensor([-1.3, 0.7]), torch.tensor([4, 0])


@pytest.mark.parametrize("classes", [0, CLASSES])
@each
def test_the_output_is_that_of_an_independent_implementation(name: str, classes: int) -> None:
    torch.manual_seed(0)
    settings, oracle = ORACLES[name]
    network = trained(settings.build(SHAPE, classes))
    x, time, label = inputs()
    weights = {key: value.double() for key, value in network.state_dict().items()}
    one_hot = torch.eye(classes, dtype=torch.float64)[label] if classes else None
    with torch.no_grad():
        ours = network(x, time, label if classes else None)
    theirs = oracle(weights, x.double(), time.double(), one_hot)
    assert theirs.std() > 1e-3
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize(
    "settings, side, classes, millions",
    [
        (DDPMppNetwork(), 32, 0, 55.7),
        (NCSNppNetwork(), 32, 0, 56.4),
        (ADMNetwork(), 64, 1000, 295.9),
        *[
            (EDM2Network(channels=c), 64, 1000, m)
            for c, m in ((128, 125), (192, 280), (256, 498), (320, 777), (384, 1119))
        ],
    ],
)
def test_sizes_are_the_published_ones(settings: ADMNetwork, side: int, classes: int, millions: float) -> None:
    with torch.device("meta"):
        network = settings.build((3, side, side), classes)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(
        millions, abs=0.5 if millions > 100 else 0.05
    )


@each_kind
def test_forward_derivatives_in_all_inputs_are_those_of_differences(kind: Callable[..., ADMNetwork]) -> None:
    torch.manual_seed(1)
    network = trained(kind(**SMALL, second_time=True).build(SHAPE, CLASSES)).double()
    x, time, label = inputs()
    point = (x.double(), time.double(), time.double() - 0.5)
    direction = tuple(torch.randn_like(each) for each in point)

    def along(step: float) -> torch.Tensor:
        x, time, second = (p + step * d for p, d in zip(point, direction, strict=True))
        return network(x, time, label, second)

    with torch.no_grad():
        _, derivative = torch.func.jvp(lambda x, time, second: network(x, time, label, second), point, direction)
        differences = (along(1e-6) - along(-1e-6)) / 2e-6
        assert not torch.equal(network(*point[:2], label, point[2]), network(*point[:2], label, point[2] + 1))
    assert derivative.abs().max() > 1e-3
    assert (derivative - differences).norm() < 1e-5 * differences.norm()


@each_kind
def test_a_second_time_changes_nothing_at_first(kind: Callable[..., ADMNetwork]) -> None:
    """So weights of a network with one time can be gone on with."""
    network = kind(**SMALL, second_time=True).build(SHAPE, 0)
    for name, parameter in network.named_parameters():
        if "second" not in name:
            nn.init.normal_(parameter, std=0.2)
    x, time, _ = inputs()
    with torch.no_grad():
        assert torch.equal(network(x, time, None, time - 1), network(x, time))


@each_kind
def test_half_precision_rounds_the_features_alone(kind: Callable[..., ADMNetwork]) -> None:
    """Weights, embedding and gradients stay float32, by autocast as by the type of x."""
    torch.manual_seed(0)
    network = kind(**SMALL).build(SHAPE, CLASSES)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    x, time, label = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(x, time, label)
    exact = network(x, time, label)
    assert rounded.dtype == torch.bfloat16 and torch.equal(rounded, network(x.bfloat16(), time, label))
    assert 0 < (rounded - exact).norm() < 0.05 * exact.norm()
    rounded.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in network.parameters())


@each_kind
def test_dropout_is_off_above_its_largest_image_side(kind: Callable[..., ADMNetwork]) -> None:
    with torch.device("meta"):
        network = kind(**SMALL, dropout=0.4, dropout_side=4).build(SHAPE, 0)
    rates = {name: module.dropout for name, module in network.named_modules() if hasattr(module, "dropout")}
    assert all(rate == (0.4 if "4x4" in name else 0.0) for name, rate in rates.items()) and len(rates) > 6


def test_edm2_weights_are_of_unit_magnitude_before_each_step() -> None:
    network = EDM2Network(**SMALL).build(SHAPE, 0)
    before = network.enc["8x8_conv"].weight.clone()
    network.before_step()
    weight = network.enc["8x8_conv"].weight
    torch.testing.assert_close(weight.square().mean((1, 2, 3)), torch.ones(len(weight)), rtol=1e-3, atol=0)
    torch.testing.assert_close(weight / weight.norm(), before / before.norm(), rtol=0.5, atol=0.1)


@each_kind
def test_every_weight_can_learn(kind: Callable[..., ADMNetwork]) -> None:
    network = kind(**SMALL | dict(channels=16), second_time=True).build(SHAPE, CLASSES)
    x, time, label = inputs()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(4):  # each step makes one more layer nonzero
        optimiser.zero_grad()
        (network(x, time, label, time - 1) - 1).square().sum().backward()
        optimiser.step()
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # a bias before a normalisation has no effect by construction
    assert not [name for name in still if "norm" not in name and not name.endswith("bias")], still


def test_widths_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ConfigError, match="33 channels do not divide into 8 groups"):
        replace(ORACLES["ddpm++"][0], channels=33).build(SHAPE, 0)
    with pytest.raises(ConfigError, match="attention heads"):
        EDM2Network(**SMALL | dict(channels=100)).build(SHAPE, 0)
    with pytest.raises(ConfigError, match="halve"):
        ADMNetwork().build((3, 36, 36), 0)
