"""What makes planning fast gives the same tuples as the plain way."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from postmean.contract import tuples as tuples_module
from postmean.contract.noise import ICTNoise, LogNormalNoise
from postmean.contract.noise.edge_table import EdgeTable
from postmean.contract.process import EDMProcess
from postmean.contract.tuples import TupleSource

below_one = st.floats(0, 1, exclude_max=True)


@given(edges=st.lists(below_one, max_size=40), uniform=st.lists(below_one, max_size=40))
def test_edge_table_finds_what_a_binary_search_finds(edges: list[float], uniform: list[float]) -> None:
    sides = np.array(sorted(edges))
    # the edges themselves, their neighbours, and the borders of the table's cells
    numbers = np.concatenate([uniform, sides, np.nextafter(sides, 1), np.nextafter(sides, 0), np.arange(8) / 8])
    numbers = numbers[numbers < 1]
    assert np.array_equal(EdgeTable(sides).interval(numbers), np.searchsorted(sides, numbers, side="right"))


@given(words=st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5), max_size=60))
def test_equal_words_keep_their_order(words: list[int]) -> None:
    expected = sorted(range(len(words)), key=lambda at: words[at])
    assert tuples_module._stable_order(np.array(words, np.uint64)).tolist() == expected


def test_a_block_over_a_change_of_grid_is_that_of_its_tuples() -> None:
    noise = ICTNoise(s0=2, s1=16, total_steps=40, batch_size=5)
    source = TupleSource(seed=3, images=11, flips=True, noise=noise, process=EDMProcess())
    block = source.block(0, 220)
    for n in range(220):
        one = source.block(n, n + 1)
        assert one.sigma_next is not None and block.sigma_next is not None
        assert (one.sigma[0], one.sigma_next[0]) == (block.sigma[n], block.sigma_next[n])


def test_threads_make_a_permutation_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    plain = tuples_module._stable_order
    monkeypatch.setattr(tuples_module, "_stable_order", lambda words: (made.append(len(words)), plain(words))[1])
    source = TupleSource(seed=71, images=50_021, flips=False, noise=LogNormalNoise(), process=EDMProcess())
    with ThreadPoolExecutor(4) as pool:
        blocks = list(pool.map(lambda start: source.block(start, start + 10_000), range(0, 40_000, 10_000)))
    assert made == [50_021]
    assert len(np.unique(np.concatenate([block.entry for block in blocks]))) == 40_000


def test_a_process_forked_while_a_permutation_is_made_can_make_one() -> None:
    source = TupleSource(seed=72, images=400_009, flips=False, noise=LogNormalNoise(), process=EDMProcess())
    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(source.block, 0, 1)
        child = multiprocessing.get_context("fork").Process(target=source.block, args=(400_009, 400_010))
        child.start()
        making.result()
    child.join(60)
    assert child.exitcode == 0
