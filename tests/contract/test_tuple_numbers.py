"""A tuple is a number: the same in every block; uniform, normal, and every entry visited once per epoch."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, norm

from postmean.base.errors import ConfigError
from postmean.contract.noise import (
    AnyNoise,
    CTNoise,
    ECTNoise,
    ICTNoise,
    LogitNormalTimeNoise,
    LogNormalNoise,
    MeanFlowNoise,
    UniformTimeNoise,
)
from postmean.contract.process import EDMProcess, FlowMatchingProcess
from postmean.contract.tuples import TupleSource

NOISES: list[AnyNoise] = [
    LogNormalNoise(),
    ICTNoise(total_steps=300, batch_size=7, s1=80),
    ECTNoise(stage_tuples=50),
    UniformTimeNoise(t_max=0.99),
    LogitNormalTimeNoise(),
    CTNoise(total_steps=30, batch_size=7, s1=40),
    MeanFlowNoise(),
]


def source_of(seed: int = 0, images: int = 13, flips: bool = False, noise: AnyNoise = NOISES[0]) -> TupleSource:
    process = FlowMatchingProcess() if noise.uses_process else EDMProcess()
    return TupleSource(seed=seed, images=images, flips=flips, noise=noise, process=process)


@settings(max_examples=80)
@given(
    seed=st.sampled_from([0, 1, 2**63 - 1]),
    noise=st.sampled_from(NOISES),
    images=st.integers(1, 40),
    flips=st.booleans(),
    start=st.integers(0, 200) | st.integers(2**40, 2**40 + 9),
    cuts=st.lists(st.integers(0, 150), max_size=6),
)
def test_tuple_is_the_same_whatever_the_block_boundaries(seed, noise, images, flips, start, cuts):
    source = source_of(seed, images, flips, noise)
    whole = source.block(start, start + 150)
    bounds = [start, *sorted(start + c for c in cuts), start + 150]
    parts = [source.block(a, b) for a, b in pairwise(bounds)]
    for column in ("tuple_id", "entry", "sigma", "sigma_next"):
        expected = getattr(whole, column)
        if expected is None:
            assert all(getattr(p, column) is None for p in parts)
            continue
        joined = np.concatenate([getattr(p, column) for p in parts])
        assert joined.dtype == expected.dtype
        assert joined.tobytes() == expected.tobytes()
    one = source.block(start + 77, start + 78)
    assert (one.entry[0], one.sigma[0]) == (whole.entry[77], whole.sigma[77])
    assert np.array_equal(whole.tuple_id, np.arange(start, start + 150))


@pytest.mark.parametrize("flips", [False, True], ids=["no flips", "flips"])
def test_every_entry_is_visited_exactly_once_an_epoch(flips):
    source = source_of(images=37, flips=flips)
    assert source.entries == (74 if flips else 37)
    orders = []
    for epoch in (0, 1, 2, 10**6):
        entry = source.block(epoch * source.entries, (epoch + 1) * source.entries).entry
        assert np.array_equal(np.sort(entry), np.arange(source.entries))
        assert source.image(entry).max() == 36
        orders.append(entry.tolist())
    assert len({tuple(order) for order in orders}) == 4


def test_position_of_an_entry_in_an_epoch_is_uniform():
    source = source_of(images=10)
    entry = source.block(0, 10 * 4000).entry.reshape(4000, 10)
    counts = np.stack([np.bincount(entry[:, position], minlength=10) for position in range(10)])
    assert (np.square(counts - 400) / 400).sum() < 81 + 5 * np.sqrt(2 * 81)  # chi-square with 81 degrees of freedom


def test_noise_level_is_independent_of_the_entry_and_of_the_next_tuple():
    block = source_of(images=50).block(0, 100_000)
    level = np.log(block.sigma)
    assert abs(np.corrcoef(level, block.entry)[0, 1]) < 5 / np.sqrt(100_000)
    for lag in (1, 2, 3, 4, 50):
        assert abs(np.corrcoef(level[lag:], level[:-lag])[0, 1]) < 5 / np.sqrt(100_000)


def test_eps_is_standard_normal_and_independent_across_tuples_and_seeds():
    eps = source_of(3).eps(range(400), 500)
    assert eps.dtype == np.float32
    assert kstest(eps.ravel(), norm.cdf).pvalue > 1e-3
    assert kstest(np.square(eps.astype(np.float64)).sum(1), "chi2", (500,)).pvalue > 1e-3
    bound = 5 / np.sqrt(eps.size)
    assert abs(np.corrcoef(eps[:-1].ravel(), eps[1:].ravel())[0, 1]) < bound
    assert abs(np.corrcoef(eps[:, :-1].ravel(), eps[:, 1:].ravel())[0, 1]) < bound
    assert abs(np.corrcoef(eps.ravel(), source_of(4).eps(range(400), 500).ravel())[0, 1]) < bound


def test_eps_of_a_tuple_is_the_same_alone_and_a_prefix_of_a_longer_one():
    source = source_of(5)
    together = source.eps([9, 2**40, 0, 9], 30)
    assert np.array_equal(together[0], together[3])
    for row, n in enumerate((9, 2**40, 0)):
        assert np.array_equal(source.eps(np.array([n]), 30)[0], together[row])
    assert not np.array_equal(together[0], together[1])


def test_draws_differ_between_tuples_points_and_uses_of_the_seed():
    source = source_of(6)
    streams = [source.draws(n, point).random(50) for n in (0, 1, 2) for point in (0, 1)]
    streams += [source_of(7).draws(0).random(50), source.eps([0], 50)[0], source.eps([1], 50)[0]]
    for i, first in enumerate(streams):
        for second in streams[i + 1 :]:
            assert abs(np.corrcoef(first, second)[0, 1]) < 0.7
    assert np.array_equal(source.draws(1, 1).random(50), streams[3])


def test_fingerprint_says_whether_the_random_numbers_are_the_same():
    base = source_of().fingerprint()
    assert source_of().fingerprint() == base
    others = [
        source_of(seed=1),
        source_of(images=14),
        source_of(flips=True),
        *[source_of(noise=noise) for noise in NOISES[1:]],
        source_of(noise=LogNormalNoise(P_mean=-1.21)),
    ]
    assert len({base, *[other.fingerprint() for other in others]}) == len(others) + 1


def test_largest_and_smallest_words_give_finite_noise_levels(monkeypatch):
    """Uniforms stay inside (0, 1): the quantiles of 0 and 1 are infinite."""

    class Constant:
        def __init__(self, word: int) -> None:
            self.word = word

        def random_raw(self, size: int) -> np.ndarray:
            return np.full(size, self.word, np.uint64)

    for word in (0, 2**64 - 1):
        monkeypatch.setattr(np.random, "Philox", lambda word=word, **_: Constant(word))
        for noise in (*NOISES[:3], NOISES[4]):
            block = source_of(seed=11, images=word % 5 + 3, noise=noise).block(0, 8)
            assert np.isfinite(block.sigma).all()
            assert (block.sigma > 0).all()


def test_select_keeps_the_columns_together():
    block = source_of(noise=NOISES[1]).block(0, 30)
    rows = np.array([4, 2, 29])
    for chosen in (block.select(rows), block.select(np.isin(block.tuple_id, rows))):
        assert len(chosen) == 3
        again = [source_of(noise=NOISES[1]).block(n, n + 1) for n in chosen.tuple_id.tolist()]
        assert chosen.sigma_next is not None
        assert chosen.entry.tolist() == [b.entry[0] for b in again]
        assert chosen.sigma.tolist() == [b.sigma[0] for b in again]
        assert chosen.sigma_next.tolist() == [b.sigma_next[0] for b in again if b.sigma_next is not None]


def test_seed_and_images_out_of_range_are_refused():
    for seed in (-1, 2**63):
        with pytest.raises(ConfigError, match="seed"):
            source_of(seed)
    with pytest.raises(ConfigError, match="image"):
        source_of(images=0)
