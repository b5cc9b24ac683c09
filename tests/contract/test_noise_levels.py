"""Noise distributions against scipy.stats and the formulae of their papers."""

import math

import numpy as np
import pytest
from scipy.stats import chisquare, kstest, lognorm, norm, uniform

from postmean.base.errors import ConfigError
from postmean.contract.noise import (
    CTNoise,
    ECTNoise,
    ICTNoise,
    LogitNormalTimeNoise,
    LogNormalNoise,
    MeanFlowNoise,
    UniformTimeNoise,
)
from postmean.contract.process import EDMProcess, FlowMatchingProcess, VPProcess, karras_grid
from postmean.contract.tuples import TupleSource

COUNT = 40_000


def sigmas(noise, process=None, start: int = 0, count: int = COUNT):
    source = TupleSource(seed=12, images=5, flips=False, noise=noise, process=process or EDMProcess())
    return source.block(start, start + count)


@pytest.mark.parametrize(("P_mean", "P_std"), [(-1.2, 1.2), (-0.8, 1.6), (3.0, 0.1)])
def test_lognormal(P_mean, P_std):
    block = sigmas(LogNormalNoise(P_mean=P_mean, P_std=P_std))
    assert block.sigma.dtype == np.float32
    assert block.sigma_next is None
    assert kstest(block.sigma, lognorm(s=P_std, scale=math.exp(P_mean)).cdf).pvalue > 1e-3
    normal = (np.log(block.sigma.astype(np.float64)) - P_mean) / P_std
    assert kstest(norm.cdf(normal), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("process", [EDMProcess(), VPProcess(), FlowMatchingProcess()], ids=lambda p: p.kind)
def test_uniform_time(process):
    noise = UniformTimeNoise(t_min=0.1, t_max=0.9)
    t = process.t(sigmas(noise, process).sigma)
    assert kstest(t, uniform(0.1, 0.8).cdf).pvalue > 1e-3


def test_logit_normal_time():
    process = FlowMatchingProcess()
    t = process.t(sigmas(LogitNormalTimeNoise(mean=0.3, std=0.8), process).sigma)
    assert kstest(np.log(t / (1 - t)), norm(0.3, 0.8).cdf).pvalue > 1e-3
    clipped = process.t(sigmas(LogitNormalTimeNoise(std=5.0, t_min=0.2), process).sigma)
    assert (clipped.min(), clipped.max()) == pytest.approx((0.2, 0.8))


def test_ict_curriculum_is_that_of_table_3_of_the_paper():
    """s0 10, s1 1280, K 400 000: doubles every 50 000 steps up to 1 281 levels."""
    noise = ICTNoise()
    assert noise.steps_per_stage == 50_000
    steps = np.array([0, 49_999, 50_000, 99_999, 100_000, 349_999, 350_000, 399_999, 10**9])
    assert noise.grid_size(steps).tolist() == [11, 11, 21, 21, 41, 641, 1281, 1281, 1281]


@pytest.mark.parametrize(("s0", "s1", "total"), [(10, 1280, 400_000), (10, 1280, 800_000), (2, 150, 1000), (3, 3, 77)])
def test_ict_grid_size_is_the_formula(s0, s1, total):
    noise = ICTNoise(s0=s0, s1=s1, total_steps=total)
    period = math.floor(total / (math.log2(math.floor(s1 / s0)) + 1))
    for step in {0, 1, period - 1, period, 2 * period, total // 2, total - 1, 5 * total}:
        expected = min(s0 * 2 ** (step // period), s1) + 1
        assert noise.grid_size(np.array([step]))[0] == expected


def test_ict_curriculum_changes_at_exactly_the_right_tuple():
    noise = ICTNoise(total_steps=80, batch_size=6, s0=10, s1=80)
    assert noise.steps_per_stage == 20
    block = sigmas(noise, count=80 * 6)
    for stage, size in enumerate((11, 21, 41, 81)):
        rows = slice(stage * 120, (stage + 1) * 120)
        grid = karras_grid(size, 0.002, 80.0, 7.0).astype(np.float32)
        assert block.sigma_next is not None
        below = np.searchsorted(grid, block.sigma[rows]) - 1
        assert np.array_equal(grid[below + 1], block.sigma[rows])  # on this grid
        assert np.array_equal(grid[below], block.sigma_next[rows])  # and the neighbour below it
        coarser = karras_grid(size // 2 + 1, 0.002, 80.0, 7.0).astype(np.float32)
        assert not np.isin(block.sigma[rows], coarser).all()


def test_ict_levels_have_the_probabilities_of_the_discretised_lognormal():
    noise = ICTNoise(s0=10, s1=10)
    block = sigmas(noise)
    grid = (0.002 ** (1 / 7) + np.arange(11) / 10 * (80 ** (1 / 7) - 0.002 ** (1 / 7))) ** 7
    mass = np.diff(norm.cdf((np.log(grid) + 1.1) / 2.0))
    position = np.abs(np.log(block.sigma[:, None] / grid[1:])).argmin(1)
    np.testing.assert_allclose(block.sigma, grid[1:][position], rtol=1e-5)
    np.testing.assert_allclose(block.sigma_next, grid[:-1][position], rtol=1e-5)
    counts = np.bincount(position, minlength=10)
    assert chisquare(counts, mass / mass.sum() * COUNT).pvalue > 1e-3


@pytest.mark.parametrize(("q", "k", "b"), [(2.0, 8.0, 1.0), (4.0, 8.0, 1.0), (256.0, 8.0, 1.0), (2.0, 0.0, 3.0)])
def test_ect_teacher_level_is_the_formula_of_each_stage(q, k, b):
    noise = ECTNoise(q=q, k=k, b=b, stage_tuples=1000)
    block = sigmas(noise, count=6000)
    assert kstest(block.sigma, lognorm(s=2.0, scale=math.exp(-1.1)).cdf).pvalue > 1e-3
    assert block.sigma_next is not None
    for n in (0, 1, 999, 1000, 1001, 2999, 3000, 5999):
        sigma, stage = float(block.sigma[n]), n // 1000
        sigmoid = 1 / (1 + math.exp(b * sigma))
        r = max(0.0, sigma * (1 - (1 + k * sigmoid) / q ** (stage + 1)))
        assert float(block.sigma_next[n]) == pytest.approx(r, rel=1e-4, abs=1e-6 * sigma)
    assert ((block.sigma_next >= 0) & (block.sigma_next <= block.sigma)).all()
    is_open = q ** -(block.tuple_id // 1000 + 1.0) > 1e-6  # below it, float32 cannot tell r from sigma
    assert (block.sigma_next < block.sigma)[is_open].all()


def test_ct_grid_grows_with_the_square_root_of_the_step_and_its_levels_are_uniform():
    noise = CTNoise(s0=2, s1=150, total_steps=800_000)
    for k in (0, 1, 12_345, 400_000, 800_000):
        n = math.ceil(math.sqrt(k / 800_000 * (151**2 - 2**2) + 2**2) - 1) + 1
        assert noise.grid_size(np.array([k]))[0] == n
    assert [noise.stage_at(512 * k) for k in (0, 800_000)] == [0, 149]
    fixed = CTNoise(s0=8, s1=8, total_steps=1, batch_size=1)
    block = sigmas(fixed)
    assert block.sigma_next is not None
    grid = karras_grid(9, 0.002, 80.0, 7.0).astype(np.float32)  # from step K on, s1 + 1
    rows = block.tuple_id >= 1
    place = np.searchsorted(grid, block.sigma[rows])
    assert np.array_equal(grid[place], block.sigma[rows]) and np.array_equal(grid[place - 1], block.sigma_next[rows])
    assert chisquare(np.bincount(place, minlength=9)[1:]).pvalue > 1e-3


def test_meanflow_times_are_the_larger_and_smaller_of_two_draws():
    process, noise = FlowMatchingProcess(), MeanFlowNoise(mean=-0.4, std=1.0, differing=0.6)
    block = sigmas(noise, process)
    assert block.sigma_next is not None
    t, r = process.t(block.sigma), process.t(block.sigma_next)
    cdf = norm(-0.4, 1.0).cdf
    assert kstest(cdf(np.log(t / (1 - t))), lambda p: p**2).pvalue > 1e-3  # the larger of two
    differs = block.sigma_next < block.sigma
    assert abs(differs.mean() - 0.6) < 0.01 and np.array_equal(r[~differs], t[~differs])
    share = cdf(np.log(r / (1 - r))[differs]) / cdf(np.log(t / (1 - t))[differs])
    assert kstest(share, "uniform").pvalue > 1e-3  # the smaller one, given the larger
    assert np.corrcoef(share, t[differs])[0, 1] == pytest.approx(0, abs=0.03)
    targets = MeanFlowNoise(mean=-0.4, std=1.0, differing=0.0)
    assert np.array_equal(sigmas(targets, process).sigma, block.sigma) and targets.sigma_alone == noise.sigma_alone


def test_karras_grid_is_equation_5_and_ends_where_it_should():
    grid = karras_grid(18, 0.002, 80.0, 7.0)
    assert (grid[0], grid[-1]) == (0.002, 80.0)
    i = np.arange(18)
    expected = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(grid, expected[::-1], rtol=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: LogNormalNoise(P_std=0.0),
        lambda: LogNormalNoise(P_std=float("nan")),
        lambda: LogNormalNoise(P_mean=float("nan")),
        lambda: ICTNoise(sigma_min=1.0, sigma_max=1.0),
        lambda: ICTNoise(sigma_max=float("inf")),
        lambda: ICTNoise(P_mean=float("inf")),
        lambda: ICTNoise(s0=20, s1=10),
        lambda: ICTNoise(s0=0),
        lambda: ICTNoise(total_steps=0),
        lambda: ICTNoise(batch_size=0),
        lambda: CTNoise(s0=1),
        lambda: CTNoise(sigma_min=1.0, sigma_max=1.0),
        lambda: MeanFlowNoise(differing=1.5),
        lambda: MeanFlowNoise(t_min=0.5),
        lambda: ECTNoise(q=1.0),
        lambda: ECTNoise(b=0.0),
        lambda: ECTNoise(P_mean=float("nan")),
        lambda: ECTNoise(stage_tuples=0),
        lambda: UniformTimeNoise(t_min=0.0),
        lambda: UniformTimeNoise(t_min=0.5, t_max=0.5),
        lambda: LogitNormalTimeNoise(t_min=0.5),
        lambda: LogitNormalTimeNoise(std=-1.0),
        lambda: LogitNormalTimeNoise(mean=float("nan")),
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match="noise"):
        wrong()
