"""Two denoisers in one: against each of them alone, and row by row."""

import pytest
import torch

from postmean.base.errors import ConfigError
from postmean.training.model.hybrid import from_level, hybrid, through
from postmean.training.model.sampling import HeunSampler, Noise

SHAPE = (1, 2, 2)


def constant(value: float):
    return lambda z, sigma, label: torch.full_like(z, value) + (0 if label is None else label[:, None, None, None])


def test_each_row_goes_to_the_denoiser_of_its_level() -> None:
    both, sigma = hybrid(constant(0.5), constant(-0.5), 0.1), torch.tensor([0.2, 0.1, 0.05, 7.0])
    z, label = torch.zeros(4, *SHAPE), torch.tensor([0, 1, 2, 3])
    assert both(z, sigma, None)[:, 0, 0, 0].tolist() == [0.5, -0.5, -0.5, 0.5]
    assert both(z, sigma, label)[:, 0, 0, 0].tolist() == [0.5, 0.5, 1.5, 3.5]
    for bad in (0.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="sigma_switch"):
            hybrid(constant(0), constant(0), bad)


def test_levels_pass_through_the_switch_and_begin_at_it() -> None:
    sampler = HeunSampler(sigmas=(80.0, 5.0, 0.5), steps=3)
    assert through(sampler, 2.0).levels == (80.0, 5.0, 2.0, 0.5)
    assert through(sampler, 5.0).levels == (80.0, 5.0, 0.5)
    assert through(sampler, 80.0) is sampler
    assert from_level(sampler, 5.0).levels == (5.0, 0.5)
    assert from_level(sampler, 100.0).levels == (100.0, 80.0, 5.0, 0.5)
    assert from_level(sampler, 0.1).levels == (0.1,)


def test_the_lower_denoiser_decides_the_end_of_the_ode() -> None:
    """With constant denoisers Heun's method is exact: z falls on a line to the mean of each part."""
    sampler, noise = through(HeunSampler(steps=6), 3.0), Noise(0, range(2), SHAPE, "cpu")
    drawn = sampler.sample(hybrid(constant(0.5), constant(-0.25), 3.0), noise, None)
    torch.testing.assert_close(drawn, torch.full_like(drawn, -0.25))
